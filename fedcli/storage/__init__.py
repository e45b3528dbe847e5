"""Bytes on disk: files are read with care, and written whole or not at all."""
