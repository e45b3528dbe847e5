"""The schemes by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedcli.partitioning.dirichlet import dirichlet, inner_dirichlet
from fedcli.partitioning.features import Change, noise, rotation
from fedcli.partitioning.labels import by_labels, pathological, shards
from fedcli.partitioning.natural import natural
from fedcli.partitioning.pool import Cut, Pool, Rng
from fedcli.partitioning.sizes import quantity


def iid(pool: Pool, clients: int, rng: Rng) -> Cut:
    """Deal the examples out at random; sizes differ by at most one."""
    return Cut(np.array_split(rng.permutation(len(pool.labels)), clients))


@dataclass(frozen=True)
class Partitioner:
    """A way to cut: what it is, where it comes from, and its options with their defaults.

    ``cut`` is called as ``cut(pool, clients, rng, **options)``. Where ``change`` is given, the
    options are those of the change of each client's examples, and the cut has none.
    """

    cut: Callable[..., Cut]
    summary: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[..., Change] | None = None


# The order is that in which a scheme is looked for that uses the options given.
PARTITIONERS: dict[str, Partitioner] = {
    "iid": Partitioner(iid, "every client alike", "McMahan et al. 2017, section 3"),
    "labels": Partitioner(
        by_labels, "each client the classes of its own list", "given by hand", {"labels": ()}
    ),
    "dirichlet": Partitioner(
        dirichlet,
        "each class divided by chance",
        "Hsu et al. 2019; Li et al. 2022, section IV-A",
        {"alpha": 0.5, "min_size": 1, "balance": False},
    ),
    "pathological": Partitioner(
        pathological,
        "each client so many classes",
        "Li et al. 2022, section IV-A",
        {"classes_per_client": 2, "assignment": "random"},
    ),
    "shards": Partitioner(
        shards,
        "pieces of the examples sorted by label",
        "McMahan et al. 2017, section 3",
        {"shards_per_client": 2},
    ),
    "feature-noise": Partitioner(
        iid,
        "pictures noisier from client to client",
        "Li et al. 2022, section IV-B",
        {"sigma": 0.1},
        noise,
    ),
    "feature-rotate": Partitioner(
        iid, "pictures turned by client", "Ghosh et al. 2020, section 6", {"angles": ()}, rotation
    ),
    "quantity": Partitioner(
        quantity,
        "sizes differ, labels do not",
        "flwr-datasets; log-normal: Acar et al. 2021",
        {"quantity": "linear", "sizes": (), "sigma": 0.3, "min_size": 1},
    ),
    "inner-dirichlet": Partitioner(
        inner_dirichlet,
        "sizes given, each client a label mix by chance",
        "Acar et al. 2021",
        {"alpha": 0.5, "quantity": "even", "sizes": (), "sigma": 0.3, "min_size": 1},
    ),
    "natural": Partitioner(
        natural, "by where the examples come from (--group)", "Caldas et al. 2018 (LEAF)"
    ),
}
