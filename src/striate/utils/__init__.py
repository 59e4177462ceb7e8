"""`torch.utils`, as far as sources of networks import it."""

from striate.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
