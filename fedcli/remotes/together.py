"""Several transfers at a time, which all end soon after one of them failed."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from fedcli.remotes.transfer import Transfer

T = TypeVar("T")
R = TypeVar("R")


def each_of(
    items: Sequence[T], work: Callable[[T], R], streams: int, transfer: Transfer
) -> list[R]:
    """Return what ``work`` returns for every item, in their order; ``streams`` threads do it.

    With one stream, or one item, it is done here, one after the other. Raises what ``work`` does.
    What has begun by then ends at its next call of ``transfer.advance``, and nothing more begins;
    the same holds for an interrupt.
    """
    threads = min(streams, len(items))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        try:
            started = [pool.submit(work, item) for item in items]
            done, _ = wait(started, return_when=FIRST_EXCEPTION)
            return [each.result() for each in started if each in done]
        except BaseException:
            transfer.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
