"""How fast networks run here: layer by layer, beside other libraries, and against the machine."""
