"""Whether processes have ended."""

import os
import select

PATIENCE = 60.0  # seconds within which what was ended has to be gone


def gone(*pids: int) -> bool:
    """Wait until processes have ended."""
    ended = True
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended &= bool(select.select([descriptor], [], [], PATIENCE)[0])
        os.close(descriptor)
    return ended
