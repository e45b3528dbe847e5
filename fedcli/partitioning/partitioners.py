"""The schemes by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcli.options import Declared, declared
from fedcli.partitioning.dirichlet import dirichlet, inner_dirichlet
from fedcli.partitioning.features import Change, noise, rotation
from fedcli.partitioning.labels import by_labels, pathological, shards
from fedcli.partitioning.natural import natural
from fedcli.partitioning.pool import Cut, Pool, Rng
from fedcli.partitioning.sizes import quantity


def iid(pool: Pool, clients: int, rng: Rng) -> Cut:
    """Assign the examples at random; sizes differ by at most one."""
    return Cut(np.array_split(rng.permutation(len(pool.labels)), clients))


@dataclass(frozen=True)
class Partitioner:
    """A row of ``PARTITIONERS``: a scheme and its source.

    ``cut`` is called as ``cut(pool, clients, rng, **options)``, and declares the options with
    their defaults. With ``change``, the options belong to the change of each client's examples,
    and the cut has none.
    """

    cut: Callable[..., Cut]
    summary: str
    source: str
    change: Callable[..., Change] | None = None

    @property
    def declared(self) -> dict[str, Declared]:
        """The options, by name."""
        return declared(self.change or self.cut)

    @property
    def options(self) -> dict[str, Any]:
        """The defaults of the options, by name."""
        return {name: one.default for name, one in self.declared.items()}


# The first scheme that uses all given options is the default.
PARTITIONERS: dict[str, Partitioner] = {
    "iid": Partitioner(iid, "all clients alike", "McMahan et al. 2017, section 3"),
    "labels": Partitioner(by_labels, "each client has the classes of its list", "given by hand"),
    "dirichlet": Partitioner(
        dirichlet, "each class divided at random", "Hsu et al. 2019; Li et al. 2022, section IV-A"
    ),
    "pathological": Partitioner(
        pathological, "each client has K classes", "Li et al. 2022, section IV-A"
    ),
    "shards": Partitioner(
        shards, "pieces of the examples sorted by label", "McMahan et al. 2017, section 3"
    ),
    "feature-noise": Partitioner(
        iid, "pictures with more noise from client to client", "Li et al. 2022, section IV-B", noise
    ),
    "feature-rotate": Partitioner(
        iid, "pictures rotated by an angle per client", "Ghosh et al. 2020, section 6", rotation
    ),
    "quantity": Partitioner(
        quantity, "sizes differ, labels do not", "flwr-datasets; log-normal: Acar et al. 2021"
    ),
    "inner-dirichlet": Partitioner(
        inner_dirichlet, "given sizes, a random label mix per client", "Acar et al. 2021"
    ),
    "natural": Partitioner(
        natural, "by the origin of the examples (--group)", "Caldas et al. 2018 (LEAF)"
    ),
}
