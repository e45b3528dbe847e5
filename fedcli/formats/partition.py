"""``data/partition.json``: how the data of a run was partitioned, and the shards."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from fedcli.formats.records import MANY, Allowed, ClientId, Count, FileRecord, Sparse

_SHARD_NAME = re.compile(r"[A-Za-z0-9._-]+\.safetensors")

ClassCounts = tuple[Count, ...]  # one for each class
ShardName = Annotated[
    str, Allowed(lambda name: _SHARD_NAME.fullmatch(name) is not None, "the name of a shard")
]


@dataclass(frozen=True)
class Heterogeneity:
    """How much the clients of a partition differ, in measures from 0 (alike) to 1.

    ``jensen_shannon_distance`` is the mean over all pairs of clients of the Jensen-Shannon distance
    of their label distributions: the square root of the divergence, to base 2. It is 0 for one
    client; with more than 1000 clients, 1000 spread evenly are compared.

    ``earth_movers_distance`` is the mean over clients of the distance between their label
    distribution p and that of all examples together, q, with distance 1 between any two classes:
    Σ|p − q| / 2. Zhao et al., "Federated Learning with Non-IID Data" (2018), define it as Σ|p − q|,
    twice this value.

    ``gini_of_sizes`` is the Gini coefficient of the clients' numbers of examples: the mean
    absolute difference of two clients, over twice the mean size.
    """

    jensen_shannon_distance: float
    earth_movers_distance: float
    gini_of_sizes: float


@dataclass(frozen=True)
class ShardFile(Sparse):
    """A shard: SHA-256 and size of its file, and the number of its examples.

    ``sha256`` depends on the run, since the file names it. ``content_sha256`` is the digest of the
    examples alone (the bytes of y, then of x, little-endian), the same in every run with these
    examples; None in runs of older versions.
    """

    sha256: str
    examples: Count
    bytes: Count
    content_sha256: str | None = None


@dataclass(frozen=True)
class PartitionFile(FileRecord):
    """How the data was partitioned: label counts by client, and shards by file name.

    ``groups`` names the groups of each client in a partition by groups. ``repaired`` counts the
    examples moved to give every client its minimum size. ``skipped`` names the files that were left
    out because they cannot be decoded. ``data_options`` are the options of this kind of data that
    were given, without files. ``heterogeneity`` is None in runs of older versions.
    """

    room = MANY

    run: str
    seed: int
    scheme: str
    parameters: dict[str, Any]
    classes: tuple[str, ...]
    label_counts: dict[ClientId, ClassCounts]
    test_label_counts: ClassCounts
    shards: dict[ShardName, ShardFile]
    validation_label_counts: dict[ClientId, ClassCounts] = field(default_factory=dict)
    client_test_label_counts: dict[ClientId, ClassCounts] = field(default_factory=dict)
    groups: dict[ClientId, tuple[str, ...]] = field(default_factory=dict)
    repaired: Count = 0
    skipped: tuple[str, ...] = ()
    heterogeneity: Heterogeneity | None = None
    data_options: dict[str, Any] = field(default_factory=dict, metadata={"sparse": True})

    def __post_init__(self) -> None:
        """Require one count per class (``ValueError``)."""
        for client, counts in self.label_counts.items():
            if len(counts) != len(self.classes):
                raise ValueError(
                    f"label_counts of client {client}: {len(counts)} counts"
                    f" for {len(self.classes)} classes"
                )

    def examples_of_clients(self) -> dict[str, int]:
        """Return the number of training examples that each client was given."""
        shards = (
            (client, self.shards.get(f"client-{client}.safetensors"))
            for client in self.label_counts
        )
        return {client: shard.examples for client, shard in shards if shard is not None}

    def labels_of(self, shard: str) -> tuple[str | None, ClassCounts | None]:
        """Return the client of a shard (None for the test set) and its label counts."""
        if shard == "test.safetensors":
            return None, self.test_label_counts
        client = shard.removeprefix("client-").removesuffix(".safetensors")
        for suffix, counts in (
            (".val", self.validation_label_counts),
            (".test", self.client_test_label_counts),
        ):
            if client.removesuffix(suffix) in counts and client.endswith(suffix):
                return client.removesuffix(suffix), counts[client.removesuffix(suffix)]
        return client, self.label_counts.get(client)
