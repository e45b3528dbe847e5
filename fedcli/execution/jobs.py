"""How many clients train at a time on one machine.

On the CPU several processes with one thread each do more work together than one after another with
several threads each, so cores are shared out among as many clients as there are. On a GPU they
share its memory, and a first client shows how much of it each takes.
"""

_USED = 0.9  # of the free memory: allocators round up, and others use the card too
_CONTEXT = 600 * 2**20  # bytes that a process takes on a GPU for CUDA itself, beside its tensors


def jobs_by_cores(clients: int, cores: int) -> int:
    """Return how many of these clients are to train at a time on this many cores.

    It is the fewest that end soonest when the clients have equal work and those that run share the
    cores: two cores do three clients in the time of 1.5 if they train all at once, and of 2 if two
    at a time.
    """
    if clients <= cores:
        return clients
    at_most = min(clients, 2 * cores - 1)  # more gain nothing and take memory
    return min(range(cores, at_most + 1), key=lambda jobs: _duration(clients, jobs, cores))


def _duration(clients: int, jobs: int, cores: int) -> int:
    """Return the time in units of one client's on one core, times ``cores``."""
    rest = clients % jobs
    return clients - rest + (max(rest, cores) if rest else 0)


def jobs_by_memory(clients: int, peak_bytes: int, free_bytes: int) -> int:
    """Return how many clients fit on a GPU, where each has tensors of ``peak_bytes`` at its peak.

    ``free_bytes`` is the GPU's memory that nobody uses. One always runs: it may fit all the same.
    """
    return max(1, min(clients, int(_USED * free_bytes) // (peak_bytes + _CONTEXT)))


def threads_each(jobs: int, cores: int) -> int:
    """Return each client's share of the cores, one at least."""
    return max(1, cores // jobs)
