"""Checking a run: what its files hold, and what they say of each other by SHA-256."""
