"""The number of clients that train at a time on one machine.

On the CPU, parallel processes with one thread each do more work than sequential ones with several
threads, so the cores are divided among as many clients as there are. On a GPU, clients share its
memory, and a first client shows how much each takes.
"""

_SMALL = 1_000_000  # bytes of examples: some 300 small pictures, trained in less than a second
_GROUPS = 16  # at least, for each job
_MOST_GROUPED = 100
_LEAST_PROCESSES = 100  # before a process trains more: each reads files with a line for each client
_MOST_JOBS = 32  # a queue elsewhere sets no limit; so many steps are worth its while
_USED = 0.9  # of the free memory: allocators round up, and others use the card too
_CONTEXT = 600 * 2**20  # bytes on a GPU that CUDA itself takes per process, in addition to tensors


def jobs_by_cores(clients: int, cores: int) -> int:
    """Return how many of ``clients`` should train at a time on ``cores``.

    This is the smallest number with the shortest duration, if clients have equal work and running
    clients share the cores: two cores train three clients in the time of 1.5 clients all at once,
    but of 2 clients two at a time.
    """
    if clients <= cores:
        return clients
    at_most = min(clients, 2 * cores - 1)  # more gain nothing and take memory
    return min(range(cores, at_most + 1), key=lambda jobs: _duration(clients, jobs, cores))


def _duration(clients: int, jobs: int, cores: int) -> int:
    """Return the duration, in units of one client on one core, times ``cores``."""
    rest = clients % jobs
    return clients - rest + (max(rest, cores) if rest else 0)


def jobs_by_memory(clients: int, peak_bytes: int, free_bytes: int) -> int:
    """Return how many clients fit on a GPU if the tensors of each peak at ``peak_bytes``.

    ``free_bytes`` is the unused memory of the GPU. At least one client runs: it may fit after all.
    """
    return max(1, min(clients, int(_USED * free_bytes) // (peak_bytes + _CONTEXT)))


def group_size(clients: int, jobs: int, largest: int) -> int:
    """Return how many clients one process should train, if ``jobs`` run at a time.

    ``largest`` is the size of the largest client's examples in bytes. A process takes 0.1 s and
    more to start: of hundreds of small clients it trains several, yet each job gets enough groups
    that none waits long for the last.
    """
    if largest > _SMALL:
        return 1
    most = max(_MOST_GROUPED, clients // _LEAST_PROCESSES)
    return max(1, min(most, clients // (_GROUPS * min(jobs, _MOST_JOBS))))


def threads_each(jobs: int, cores: int) -> int:
    """Return each client's share of the cores, at least one."""
    return max(1, cores // jobs)
