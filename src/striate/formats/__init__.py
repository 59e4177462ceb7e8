"""File formats that networks are stored in and exchanged by."""
