"""Cutting the training examples of one data set into clients.

A partitioner sees labels only. It gives each client the indices of its examples, sorted; no
example goes to two clients.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.errors import UsageError
from fedcli.plan import one_of
from fedcli.randomness import stream

Indices = NDArray[np.int64]
Labels = NDArray[np.int64]
Rng = np.random.Generator

_DIRICHLET_DRAWS = 1000


@dataclass(frozen=True)
class Scheme:
    """Which partitioner cuts the data, and with what.

    ``labels`` holds the classes of each client, by name or number, as they were typed.
    """

    name: str = "iid"
    clients: int = 3
    labels: tuple[tuple[str, ...], ...] = ()
    alpha: float = 0.5
    min_size: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no data could be cut with (``UsageError``)."""
        one_of("--scheme", self.name, PARTITIONERS)
        if self.clients < 1:
            raise UsageError(f"--clients: expected 1 or more, found {self.clients}")
        if not 0 < self.alpha < float("inf"):
            raise UsageError(f"--alpha: expected a number above 0, found {self.alpha}")
        if self.min_size < 1:
            raise UsageError(f"--min-size: expected 1 or more, found {self.min_size}")
        if self.name == "labels" and len(self.labels) != self.clients:
            raise UsageError(
                f"--clients {self.clients}: there are {len(self.labels)} --labels lists;"
                " give one list for each client"
            )

    def parameters(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the parameters that the partitioner uses, with classes by name."""
        values = {name: getattr(self, name) for name in PARTITIONERS[self.name].parameters}
        if "labels" in values:
            lists = label_lists(self.labels, classes)
            values["labels"] = [[classes[label] for label in chosen] for chosen in lists]
        return values


@dataclass(frozen=True)
class Partitioner:
    """A way to cut: the function, and which fields of ``Scheme`` it uses."""

    cut: Callable[[Labels, Sequence[str], Scheme, Rng], list[Indices]]
    parameters: tuple[str, ...]
    help: str


def iid(labels: Labels, classes: Sequence[str], scheme: Scheme, rng: Rng) -> list[Indices]:
    """Deal the examples out at random; sizes differ by at most one."""
    return np.array_split(rng.permutation(len(labels)), scheme.clients)


def by_labels(labels: Labels, classes: Sequence[str], scheme: Scheme, rng: Rng) -> list[Indices]:
    """Give each client the classes of its list; clients that name a class share it evenly.

    Examples of a class that is in no list are left out.
    """
    lists = label_lists(scheme.labels, classes)
    pieces: list[list[Indices]] = [[] for _ in lists]
    for label in sorted({label for chosen in lists for label in chosen}):
        owners = [client for client, chosen in enumerate(lists) if label in chosen]
        members = rng.permutation(np.flatnonzero(labels == label))
        # the spare examples of a class go to a different owner for each class
        owners = owners[label % len(owners) :] + owners[: label % len(owners)]
        for owner, piece in zip(owners, np.array_split(members, len(owners)), strict=True):
            pieces[owner].append(piece)
    return [np.concatenate([np.empty(0, np.int64), *piece]) for piece in pieces]


def dirichlet(labels: Labels, classes: Sequence[str], scheme: Scheme, rng: Rng) -> list[Indices]:
    """Divide each class between the clients in proportions drawn from a Dirichlet distribution.

    A small ``alpha`` gives each class to few clients. The proportions are drawn again until
    each client has ``min_size`` examples. After Li et al., "Federated Learning on Non-IID Data
    Silos" (2022), section IV-A, and Hsu et al., "Measuring the Effects of Non-Identical Data
    Distribution" (2019).

    Raises ``UsageError`` when 1000 draws give none that will do.
    """
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    sizes = np.array([len(indices) for indices in members])
    for _ in range(_DIRICHLET_DRAWS):
        shares = rng.dirichlet(np.full(scheme.clients, scheme.alpha), size=len(members))
        bounds = np.rint(np.cumsum(shares, axis=1) * sizes[:, None]).astype(np.int64)
        bounds[:, -1] = sizes
        if np.diff(bounds, axis=1, prepend=0).sum(axis=0).min() >= scheme.min_size:
            break
    else:
        raise UsageError(
            f"--alpha {scheme.alpha}: none of {_DIRICHLET_DRAWS} draws gave each of"
            f" {scheme.clients} clients at least {scheme.min_size} of {len(labels)} examples",
            hint="raise --alpha, or lower --clients or --min-size",
        )
    pieces = [np.split(m, cuts[:-1]) for m, cuts in zip(members, bounds, strict=True)]
    return [np.concatenate(client) for client in zip(*pieces, strict=True)]


PARTITIONERS: dict[str, Partitioner] = {
    "iid": Partitioner(iid, ("clients",), "every client alike"),
    "labels": Partitioner(by_labels, ("labels",), "each client its own classes (--labels)"),
    "dirichlet": Partitioner(
        dirichlet, ("clients", "alpha", "min_size"), "skewed by chance (--alpha)"
    ),
}


def cut(labels: Labels, classes: Sequence[str], scheme: Scheme, seed: int) -> list[Indices]:
    """Cut the examples with these labels into clients: for each, its sorted indices.

    Raises ``UsageError`` when a client would have no example.
    """
    minimum = scheme.min_size if scheme.name == "dirichlet" else 1
    if scheme.clients * minimum > len(labels):
        raise UsageError(
            f"--clients {scheme.clients}: {len(labels)} training examples are too few for"
            f" {minimum} each",
            hint="lower --clients" + (" or --min-size" if minimum > 1 else ""),
        )
    parts = PARTITIONERS[scheme.name].cut(labels, classes, scheme, stream(seed, "partition"))
    empty = [str(client) for client, part in enumerate(parts) if len(part) == 0]
    if empty:
        raise UsageError(
            f"--labels: no training example would be left for client {', '.join(empty)}",
            hint="name classes that have more examples, or raise --limit",
        )
    return [np.sort(part) for part in parts]


def label_lists(
    lists: Sequence[Sequence[str]], classes: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Find the classes of each list, given by name or by number; names win over numbers.

    Raises ``UsageError`` for a class that does not exist or is named twice in a list.
    """
    found = []
    for chosen in lists:
        numbers = sorted(_label(text, classes) for text in chosen)
        if len(set(numbers)) != len(numbers):
            raise UsageError(f"--labels {','.join(chosen)}: names a class twice")
        found.append(tuple(numbers))
    return tuple(found)


def _label(text: str, classes: Sequence[str]) -> int:
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    known = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")
    raise UsageError(
        f"--labels: no class {text!r}; known: {known}, or numbers from 0 to {len(classes) - 1}"
    )


def stratified_sample(labels: Labels, count: int, rng: Rng) -> Indices:
    """Choose ``count`` examples that hold each class in proportion; return sorted indices.

    What is left over by rounding down goes to the classes with the largest remainders, ties in
    random order.
    """
    sizes = np.bincount(labels)
    exact = sizes * count / max(len(labels), 1)
    quota = np.floor(exact).astype(np.int64)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-(exact - quota)[order], kind="stable")]
    quota[order[: count - int(quota.sum())]] += 1
    members = (rng.permutation(np.flatnonzero(labels == label)) for label in range(len(sizes)))
    chosen = [indices[:wanted] for indices, wanted in zip(members, quota, strict=True)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def label_counts(labels: Labels, num_classes: int) -> list[int]:
    """Count the examples of each class."""
    return [int(count) for count in np.bincount(labels, minlength=num_classes)]
