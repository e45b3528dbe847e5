"""The number of usable processor cores."""

import os


def available_cores() -> int:
    """Return how many cores this process may use, which a job scheduler may limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
