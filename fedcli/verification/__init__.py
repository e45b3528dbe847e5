"""Verification of a run: the content of its files, and the SHA-256s they name of each other."""
