"""Futures of many steps, a limited number of them under way."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def finished(
    submit: Callable[[Item], Future[Result]], items: Iterable[Item], limit: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Submit a step for each item, at most ``limit`` under way; yield each as it is done.

    The cost is that of one step whatever their number, unlike that of ``futures.wait``.
    """
    done: SimpleQueue[tuple[Item, Future[Result]]] = SimpleQueue()
    waiting, under_way = iter(items), 0
    while True:
        for item in islice(waiting, limit - under_way):
            under_way += 1
            _put_when_done(submit(item), item, done)
        if not under_way:
            return
        yield done.get()
        under_way -= 1


def _put_when_done(
    future: Future[Result], item: Item, done: SimpleQueue[tuple[Item, Future[Result]]]
) -> None:
    future.add_done_callback(lambda ended: done.put((item, ended)))
