"""Bytes on a disk: files that are read with care, and written whole or not at all."""
