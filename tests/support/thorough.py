"""How much of a campaign runs: a seeded sample, or all of it with ``FEDCLI_THOROUGH=1``."""

import os
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")
THOROUGH = os.environ.get("FEDCLI_THOROUGH", "0") not in ("", "0")


def sample(
    items: Sequence[T],
    count: int,
    *,
    kind: Callable[[T], Hashable] = lambda item: None,
    seed: str = "",
) -> list[T]:
    """Return ``count`` of the items in their order, the same ones every time, or all of them.

    There is one of every kind, even where that makes more than ``count``.
    """
    if THOROUGH or count >= len(items):
        return list(items)
    places = list(range(len(items)))
    random.Random(f"{seed}/{len(items)}").shuffle(places)
    of_kind: dict[Hashable, list[int]] = defaultdict(list)
    for place in places:
        of_kind[kind(items[place])].append(place)
    firsts = [members[0] for members in of_kind.values()]
    rest = [place for place in places if place not in set(firsts)]
    chosen = {*firsts, *rest[: max(0, count - len(firsts))]}
    return [item for place, item in enumerate(items) if place in chosen]


def times(most: int, sampled: int) -> int:
    """Return how often something is repeated: ``most`` times in a thorough run."""
    return most if THOROUGH else sampled
