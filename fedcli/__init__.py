"""Federated learning as plain commands: one step, one process, one file."""

__version__ = "0.1.0"
