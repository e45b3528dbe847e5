"""How many processor cores there are to work on."""

import os


def available_cores() -> int:
    """Return how many cores this process may use; a scheduler may have given it only some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
