"""Exporting a global model: its weights in formats that other programs read, and its card."""
