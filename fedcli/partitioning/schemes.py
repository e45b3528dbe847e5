"""One scheme with its options, and the cut that it makes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fedcli.errors import UsageError
from fedcli.options import FROM_1, Range, check_ranges, one_of, option_of
from fedcli.partitioning.features import Change, Place
from fedcli.partitioning.labels import ASSIGNMENTS, label_lists
from fedcli.partitioning.natural import groups_of
from fedcli.partitioning.partitioners import PARTITIONERS
from fedcli.partitioning.pool import Cut, Pool
from fedcli.partitioning.sizes import QUANTITIES
from fedcli.randomness import stream

_CLIENTS = 3  # where nothing says how many
_TO_A_MILLION: Range = ("a number above 0, at most 1e6", lambda value: 0 < value <= 1e6)
_RANGES: dict[str, Range] = {
    "clients": FROM_1,
    "alpha": _TO_A_MILLION,
    "min_size": FROM_1,
    "classes_per_client": FROM_1,
    "shards_per_client": FROM_1,
    "sigma": _TO_A_MILLION,
}


@dataclass(frozen=True)
class Scheme:
    """Which partitioner cuts the data, and with what; None and () stand for its defaults.

    ``labels`` holds the classes of each client, by name or number, as they were typed.
    """

    name: str = "iid"
    clients: int | None = None
    labels: tuple[tuple[str, ...], ...] = ()
    alpha: float | None = None
    min_size: int | None = None
    balance: bool | None = None
    classes_per_client: int | None = None
    assignment: str | None = None
    shards_per_client: int | None = None
    quantity: str | None = None
    sizes: tuple[int, ...] = ()
    sigma: float | None = None
    angles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what the scheme does not use or cannot cut with (``UsageError``)."""
        known = PARTITIONERS[one_of("--scheme", self.name, PARTITIONERS)].options
        for option in self._given():
            if option not in known:
                raise UsageError(f"{option_of(option)}: scheme {self.name} does not use it")
        check_ranges(self, _RANGES)
        for option, values in (("assignment", ASSIGNMENTS), ("quantity", QUANTITIES)):
            if getattr(self, option) is not None:
                one_of(option_of(option), getattr(self, option), values)
        if any(size < 1 for size in self.sizes):
            raise UsageError(f"--sizes: expected numbers of 1 or more, found {min(self.sizes)}")
        if not all(map(math.isfinite, self.angles)):
            raise UsageError(f"--angles: expected numbers of degrees, found {self.angles}")
        self._check_together()

    def _given(self) -> dict[str, Any]:
        """The options that are not left to their defaults."""
        values = {option.name: getattr(self, option.name) for option in fields(self)[2:]}
        return {name: value for name, value in values.items() if value not in (None, ())}

    def _check_together(self) -> None:
        """Refuse options that say the same thing twice, or of which one is needed."""
        if self.name == "labels" and not self.labels:
            raise UsageError(
                "--scheme labels: say which classes each client has",
                hint="fedcli partition --labels 0,1 --labels 2,3 --labels 4,5",
            )
        if self.sizes:
            for option in ("quantity", "sigma", "min_size"):
                if getattr(self, option) is not None:
                    raise UsageError(f"{option_of(option)}: --sizes says how many examples")
        elif self.sigma is not None and self.options.get("quantity", "log-normal") != "log-normal":
            raise UsageError("--sigma: with this scheme, only --quantity log-normal uses it")
        for option, what in (("labels", "--labels lists"), ("sizes", "--sizes")):
            number = len(getattr(self, option))
            if number and self.clients not in (None, number):
                raise UsageError(
                    f"--clients {self.clients}: there are {number} {what}; give one for each client"
                )

    @property
    def options(self) -> dict[str, Any]:
        """The options of the partitioner, as given or by default."""
        return {**PARTITIONERS[self.name].options, **self._given()}

    def number_of_clients(self, pool: Pool) -> int:
        """Return how many clients there are; ``natural`` asks the pool. Raises ``UsageError``."""
        if self.clients is not None:
            return self.clients
        if self.name == "natural":
            return len(groups_of(pool)[0])
        return len(self.labels) or len(self.sizes) or _CLIENTS

    def parameters(self, pool: Pool) -> dict[str, Any]:
        """Return what the cut is made with, for ``run.json``: classes by name.

        Options that are off, or that another one leaves without a meaning, are left out.
        """
        values = self.options
        if self.sizes:
            unused = {"quantity", "sigma", "min_size"}
        else:
            unused = {"sigma"} if values.get("quantity", "log-normal") != "log-normal" else set()
        if self.labels:
            lists = label_lists(self.labels, pool.classes)
            values["labels"] = [[pool.classes[label] for label in chosen] for chosen in lists]
        elif not self.sizes:
            values["clients"] = self.number_of_clients(pool)
        return {k: v for k, v in values.items() if k not in unused and v is not False and v != ()}


def scheme_for(options: Iterable[str]) -> str:
    """Return the first scheme that uses all of these options. Raises ``UsageError``."""
    asked = list(options)
    for name, partitioner in PARTITIONERS.items():
        if partitioner.options.keys() >= set(asked):
            return name
    named = " and ".join(map(option_of, asked))
    raise UsageError(f"{named}: no scheme uses them together", hint="fedcli partition --list")


def cut(pool: Pool, scheme: Scheme, seed: int) -> Cut:
    """Cut the pool into clients: for each, its sorted indices.

    Raises ``UsageError`` when there are too few examples, or what the scheme needs is not there.
    """
    clients = scheme.number_of_clients(pool)
    partitioner, options = PARTITIONERS[scheme.name], scheme.options
    least = options.get("min_size", 1)
    if clients * least > len(pool.labels):
        raise UsageError(
            f"--clients {clients}: {len(pool.labels)} training examples are too few for"
            f" {least} each",
            hint="lower --clients" + (" or --min-size" if least > 1 else ""),
        )
    rng = stream(seed, "partition")
    made = partitioner.cut(pool, clients, rng, **({} if partitioner.change else options))
    return Cut([np.sort(part) for part in made.clients], made.repaired, made.groups)


def feature_change(scheme: Scheme, place: Place) -> Change | None:
    """Return what the scheme does to a client's examples; None where it leaves them alone.

    Raises ``UsageError`` for examples that cannot be changed so.
    """
    change = PARTITIONERS[scheme.name].change
    return None if change is None else change(place, **scheme.options)
