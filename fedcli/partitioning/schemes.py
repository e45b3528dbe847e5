"""A scheme with its options, and the cut that it makes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from fedcli.errors import UsageError
from fedcli.options import Declared, Option, check_seed, declared, one_of, option_of, owned
from fedcli.partitioning.features import Change, Place
from fedcli.partitioning.labels import label_lists
from fedcli.partitioning.natural import groups_of
from fedcli.partitioning.partitioners import PARTITIONERS
from fedcli.partitioning.pool import Cut, Pool
from fedcli.randomness import stream

_CLIENTS = 3  # by default


@dataclass(frozen=True, init=False)
class Scheme:
    """A partitioner's name, the number of clients, and the partitioner's options.

    Options that are None, () or not given have the partitioner's defaults. ``partition_seed``
    is in place of the run's seed.
    """

    name: str
    clients: int | None
    partition_seed: int | None
    given: Mapping[str, Any]

    def __init__(
        self,
        name: Annotated[
            str,
            Option(
                "How to cut; `--list` prints all.",
                "NAME",
                unset="the first in the list that uses the options given, else `iid`",
                word="--scheme",
                names=lambda: PARTITIONERS,
            ),
        ] = "iid",
        clients: Annotated[
            int | None,
            Option(
                "Number of clients.",
                "N",
                at_least=1,
                unset="3, or the number of `--labels`, `--sizes` or groups",
                aliases=("--num-clients",),
            ),
        ] = None,
        partition_seed: Annotated[
            int | None,
            Option(
                "Seed of what a scheme, `--val-fraction` and `--test-split` draw, in place of"
                " `--seed`.",
                "N",
                at_least=0,
                unset="that of `--seed`",
            ),
        ] = None,
        **options: Any,
    ) -> None:
        """Raise ``UsageError`` for options that the scheme does not use, and for bad values."""
        known = PARTITIONERS[one_of("--scheme", name, PARTITIONERS)].declared
        given = {key: value for key, value in options.items() if value not in (None, ())}
        own = {"name": name, "clients": clients, "partition_seed": partition_seed}
        for field, value in {**own, "given": given}.items():
            object.__setattr__(self, field, value)
        for option, value in given.items():
            if option not in known:
                raise UsageError(f"{option_of(option)}: scheme {name} does not use it")
            known[option].check(value)
        for option in ("clients", "partition_seed"):
            declared(Scheme.__init__)[option].check(own[option])
        check_seed(partition_seed or 0, "--partition-seed")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse missing options, and options that contradict or repeat each other."""
        given = self.given
        if self.name == "labels" and "labels" not in given:
            raise UsageError(
                "--scheme labels: say which classes each client has",
                hint="fedcli partition --labels 0,1 --labels 2,3 --labels 4,5",
            )
        if "sizes" in given:
            for option in ("quantity", "sigma", "min_size"):
                if option in given:
                    raise UsageError(f"{option_of(option)}: --sizes says how many examples")
        elif "sigma" in given and self.options.get("quantity", "log-normal") != "log-normal":
            raise UsageError("--sigma: with this scheme, only --quantity log-normal uses it")
        for option, what in (("labels", "--labels lists"), ("sizes", "--sizes")):
            number = len(given.get(option, ()))
            if number and self.clients not in (None, number):
                raise UsageError(
                    f"--clients {self.clients}: there are {number} {what}; give one for each client"
                )

    @property
    def options(self) -> dict[str, Any]:
        """The options of the partitioner, with defaults."""
        return {**PARTITIONERS[self.name].options, **self.given}

    def number_of_clients(self, pool: Pool) -> int:
        """Return the number of clients, which may depend on the pool. Raises ``UsageError``."""
        if self.clients is not None:
            return self.clients
        if self.name == "natural":
            return len(groups_of(pool)[0])
        return len(self.given.get("labels") or self.given.get("sizes") or range(_CLIENTS))

    def parameters(self, pool: Pool) -> dict[str, Any]:
        """Return the parameters of the cut for ``run.json``, with classes by name.

        Options that are off, or that another option makes meaningless, are omitted.
        """
        values = self.options
        if "sizes" in self.given:
            unused = {"quantity", "sigma", "min_size"}
        else:
            unused = {"sigma"} if values.get("quantity", "log-normal") != "log-normal" else set()
        if "labels" in self.given:
            lists = label_lists(self.given["labels"], pool.classes)
            values["labels"] = [[pool.classes[label] for label in chosen] for chosen in lists]
        elif "sizes" not in self.given:
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


def scheme_options() -> dict[str, Declared]:
    """Return the options of all schemes, with their owners and defaults."""
    names = dict.fromkeys(name for row in PARTITIONERS.values() for name in row.declared)
    owners = {
        name: {n: row.declared[name] for n, row in PARTITIONERS.items() if name in row.declared}
        for name in names
    }
    own = {name: owned(rows) for name, rows in owners.items()}
    return {**declared(Scheme.__init__), **own}


def cut(pool: Pool, scheme: Scheme, seed: int) -> Cut:
    """Cut the pool into clients, with sorted indices.

    Raises ``UsageError`` for too few examples, and if data that the scheme needs is missing.
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
    """Return the scheme's change of a client's examples, or None if it changes nothing.

    Raises ``UsageError`` for examples that it cannot change.
    """
    change = PARTITIONERS[scheme.name].change
    return None if change is None else change(place, **scheme.options)
