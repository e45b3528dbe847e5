"""Which data a run is made from, and how much of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedcli.datasets import DATASETS, specs
from fedcli.datasets.base import DataOptions
from fedcli.options import Declared, check, check_seed, declared, option, owned

# Who has test examples.
TEST_SPLITS = {
    "server": "one test set for all",
    "client": "each client its own, distributed like its training examples",
    "both": "the same examples as one test set, and shared out",
}


@dataclass(frozen=True)
class DataSource(DataOptions):
    """Which data a run is made from, and how much of it.

    ``options`` are those of the data set alone, such as ``group`` of an imagefolder.
    """

    spec: str = option(
        "synthetic",
        "`synthetic`, `imagefolder:PATH`, `npz:PATH`, or a torchvision name such as `cifar10`.",
        "SPEC",
        word="--dataset",
        names=specs,
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = option(
        None,
        "Use only N training examples, each class in proportion, and the same share of the"
        " test set.",
        "N",
        at_least=1,
        unset="all",
    )
    test_split: str = option(
        "server",
        "Who has test examples: `server` (one set for all), `client` (each its own) or `both`.",
        "WHO",
        choices=TEST_SPLITS,
    )
    val_fraction: float = option(
        0.0,
        "Share of each client's examples to hold out for `fedcli evaluate --clients`.",
        "F",
        at_least=0,
        below=1,
    )
    data_seed: int | None = option(
        None,
        "Seed of what `--limit` and `--test-fraction` draw, in place of `--seed`.",
        "N",
        at_least=0,
        unset="that of `--seed`",
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot be used (``UsageError``)."""
        check(self)
        check_seed(self.data_seed or 0, "--data-seed")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "DataSource":
        """Build it from options by name, those of the data set among them."""
        own = {key: value for key, value in values.items() if key not in declared(cls)}
        return cls(**{key: value for key, value in values.items() if key not in own}, options=own)


def data_options() -> dict[str, Declared]:
    """Return the options of data, with those of single data sets and whose they are."""
    own = {name: row.declared for name, row in DATASETS.items() if row.declared}
    names = dict.fromkeys(option for rows in own.values() for option in rows)
    return {
        "spec": declared(DataSource)["spec"],
        **declared(DataSource),
        **{
            option: owned({name: rows[option] for name, rows in own.items() if option in rows})
            for option in names
        },
    }
