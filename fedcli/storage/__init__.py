"""Bytes on a disk: the only room that touches the file system."""
