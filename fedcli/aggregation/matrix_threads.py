"""How many threads a product of matrices may have."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_matrix_thread() -> Iterator[None]:
    """Let numpy's BLAS use one thread, where as many as there are cores call it."""
    from threadpoolctl import threadpool_limits  # 1 MB, which sums do without

    with threadpool_limits(limits=1, user_api="blas"):
        yield
