"""Keys, signatures, and the identity of global models."""
