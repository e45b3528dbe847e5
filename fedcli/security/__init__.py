"""Keys, signatures, and whether a file is the model that it claims to be."""
