"""Division of a data set: the training, validation and test examples of each client."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fedcli.datasets import Dataset, Part
from fedcli.errors import UsageError
from fedcli.partitioning.client_tests import by_group, like_training
from fedcli.partitioning.counts import label_counts, stratified_sample
from fedcli.partitioning.features import Place
from fedcli.partitioning.pool import Cut, Indices, Labels, Pool
from fedcli.partitioning.schemes import Scheme, cut, feature_change
from fedcli.randomness import stream


@dataclass(frozen=True)
class Client:
    """The examples of one client: indices into the training part, ``test`` into the test part."""

    id: str
    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True)
class Division:
    """A data set divided between clients.

    ``test`` is the common test part, or None. ``repaired`` and ``groups`` are as in
    ``data/partition.json``.
    """

    dataset: Dataset
    scheme: Scheme
    seed: int
    clients: tuple[Client, ...]
    test: Part | None
    repaired: int
    groups: dict[str, list[str]]

    def seen_by(self, client: Client) -> tuple[Part, Part]:
        """Return the training and the test part with a client's changes of features.

        Raises ``UsageError`` if these examples cannot be changed that way.
        """
        return (
            self._changed(self.dataset.train, "train", client),
            self._changed(self.dataset.test, "test", client),
        )

    def _changed(self, part: Part, name: str, client: Client) -> Part:
        place = Place(int(client.id), len(self.clients), self.seed, name, self.dataset.shape)
        change = feature_change(self.scheme, place)
        if change is None:
            return part
        return replace(part, read=lambda numbers: change(part.read(numbers), numbers))

    def left_out(self) -> Iterator[str]:
        """Yield messages about examples that no client gets, and clients without test examples."""
        labels = self.dataset.train.labels
        given = np.concatenate([np.union1d(one.train, one.validation) for one in self.clients])
        missing = np.setdiff1d(np.arange(len(labels)), given)
        unused = np.setdiff1d(labels[missing], labels[given])
        if len(unused):
            names = ", ".join(self.dataset.classes[label] for label in unused)
            yield f"no client gets: {names}{' (the test set keeps them)' if self.test else ''}"
        if rest := int((~np.isin(labels[missing], unused)).sum()):
            yield f"no client gets {rest} of {len(labels)} training examples"
        tested = sum(len(one.test) for one in self.clients)
        if not tested:
            return
        if untested := [one.id for one in self.clients if len(one.test) == 0]:
            yield f"no test example for client {', '.join(untested)}"
        if rest := len(self.dataset.test.labels) - tested:
            yield f"no client is tested on {rest} of {tested + rest} test examples"


def pool_of(dataset: Dataset) -> Pool:
    """Return the training part as a partitioner sees it."""
    part = dataset.train
    return Pool(part.labels, dataset.classes, part.groups, dataset.group_names)


def divide(
    dataset: Dataset, scheme: Scheme, val_fraction: float, test_split: str, seed: int
) -> Division:
    """Partition the training part, hold out validation examples, and distribute the test part.

    Raises ``UsageError``.
    """
    made = cut(pool_of(dataset), scheme, seed)
    tests = [np.empty(0, np.int64)] * len(made.clients)
    if test_split != "server":
        tests = _client_tests(dataset, made, seed)
    clients = []
    for number, (mine, test) in enumerate(zip(made.clients, tests, strict=True)):
        held_out = _held_out(dataset.train.labels, mine, val_fraction, number, seed)
        clients.append(Client(str(number), np.setdiff1d(mine, held_out), held_out, test))
    names = dataset.group_names
    return Division(
        dataset,
        scheme,
        seed,
        tuple(clients),
        None if test_split == "client" else dataset.test,
        made.repaired,
        {str(n): [names[group] for group in own] for n, own in enumerate(made.groups)},
    )


def _held_out(labels: Labels, mine: Indices, fraction: float, number: int, seed: int) -> Indices:
    """Choose the validation examples of a client, class by class."""
    if fraction == 0:
        return np.empty(0, np.int64)
    count = max(1, round(fraction * len(mine)))
    if count >= len(mine):
        raise UsageError(
            f"--val-fraction {fraction}: client {number} has only {len(mine)} examples",
            hint="raise --min-size, or lower --val-fraction or --clients",
        )
    return mine[stratified_sample(labels[mine], count, stream(seed, "validation", number))]


def _client_tests(dataset: Dataset, made: Cut, seed: int) -> list[Indices]:
    """Distribute the test part: by group if both parts have groups, else class by class."""
    if made.groups and dataset.test.groups is not None:
        return by_group(dataset.test.groups, made.groups)
    labels, number = dataset.train.labels, len(dataset.classes)
    counts = [label_counts(labels[mine], number) for mine in made.clients]
    return like_training(dataset.test.labels, counts, stream(seed, "client tests"))
