"""Label skew by classes: each client has few of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from fedcli.errors import UsageError
from fedcli.options import Option
from fedcli.partitioning.counts import joined
from fedcli.partitioning.pool import Cut, Indices, Pool, Rng

ASSIGNMENTS = {"random": "drawn for each client", "deterministic": "client i: i, i + 1, …"}


def by_labels(
    pool: Pool,
    clients: int,
    rng: Rng,
    *,
    labels: Annotated[
        tuple[tuple[str, ...], ...],
        Option(
            "The classes of one client, such as `0,1` or `cat,dog`; repeat for each client.",
            "LIST",
            repeat=True,
        ),
    ] = (),
) -> Cut:
    """Give each client the classes of its list; clients that name a class share it evenly.

    Examples of classes in no list are unused. Raises ``UsageError`` for a class that does not
    exist, and if a client would have no examples.
    """
    lists = label_lists(labels, pool.classes)
    owners = _owners(lists)
    for label, sharing in owners.items():
        # Rotate the owners, so that spare examples go to a different client for each class.
        first = label % len(sharing)
        owners[label] = sharing[first:] + sharing[:first]
    parts = _shared(pool, owners, clients, rng)
    empty = [str(client) for client, part in enumerate(parts) if len(part) == 0]
    if empty:
        raise UsageError(
            f"--labels: no training examples would be left for client {', '.join(empty)}",
            hint="name classes that have more examples, or raise --limit",
        )
    return Cut(parts)


def pathological(
    pool: Pool,
    clients: int,
    rng: Rng,
    *,
    classes_per_client: Annotated[
        int, Option("Number of classes of each client.", "K", at_least=1)
    ] = 2,
    assignment: Annotated[
        str,
        Option(
            "`random`, or `deterministic`: client i has the classes i, i + 1, ….",
            "NAME",
            choices=ASSIGNMENTS,
        ),
    ] = "random",
) -> Cut:
    """Give each client ``classes_per_client`` classes; the clients of a class share it evenly.

    With the assignment ``deterministic``, client i has the classes i, i + 1, … modulo their
    number; else its classes are drawn without replacement, and classes that no client draws are
    unused. After Li et al., "Federated Learning on Non-IID Data Silos" (2022), section IV-A
    (quantity-based label imbalance), as in flwr-datasets' ``PathologicalPartitioner``.

    Raises ``UsageError`` for too few classes, or too few examples of one.
    """
    present = np.unique(pool.labels)
    if classes_per_client > len(present):
        raise UsageError(
            f"--classes-per-client {classes_per_client}: the training examples have only"
            f" {len(present)} classes"
        )
    lists = [
        (client + np.arange(classes_per_client)) % len(present)
        if assignment == "deterministic"
        else rng.choice(len(present), classes_per_client, replace=False)
        for client in range(clients)
    ]
    owners = _owners([present[chosen].tolist() for chosen in lists])
    for label, sharing in owners.items():
        examples = int((pool.labels == label).sum())
        if examples < len(sharing):
            raise UsageError(
                f"--classes-per-client {classes_per_client}: {len(sharing)} clients would share"
                f" the {examples} examples of class {pool.classes[label]}",
                hint="lower --clients or --classes-per-client, or try --assignment deterministic",
            )
    return Cut(_shared(pool, owners, clients, rng))


def shards(
    pool: Pool,
    clients: int,
    rng: Rng,
    *,
    shards_per_client: Annotated[
        int, Option("Number of shards of each client.", "S", at_least=1)
    ] = 2,
) -> Cut:
    """Sort examples by label, cut them into equal shards, and assign the shards at random.

    Shard sizes differ by at most one example. After McMahan et al., "Communication-Efficient
    Learning of Deep Networks from Decentralized Data" (2017), section 3.

    Raises ``UsageError`` for more shards than examples.
    """
    number = clients * shards_per_client
    if number > len(pool.labels):
        raise UsageError(
            f"--shards-per-client {shards_per_client}: {clients} clients need {number} shards, but"
            f" there are {len(pool.labels)} training examples",
            hint="lower --clients or --shards-per-client",
        )
    order = rng.permutation(len(pool.labels))
    order = order[np.argsort(pool.labels[order], kind="stable")]
    pieces = np.array_split(order, number)
    dealt = rng.permutation(number).reshape(clients, shards_per_client)
    return Cut([joined([pieces[shard] for shard in own]) for own in dealt])


def _owners(lists: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Turn the classes of each client into the clients of each class."""
    named = sorted({label for chosen in lists for label in chosen})
    return {label: [c for c, chosen in enumerate(lists) if label in chosen] for label in named}


def _shared(
    pool: Pool, owners: Mapping[int, Sequence[int]], clients: int, rng: Rng
) -> list[Indices]:
    """Split each class evenly between its owners; the first owners get the spare examples."""
    pieces: list[list[Indices]] = [[] for _ in range(clients)]
    for label, sharing in owners.items():
        members = rng.permutation(np.flatnonzero(pool.labels == label))
        for owner, piece in zip(sharing, np.array_split(members, len(sharing)), strict=True):
            pieces[owner].append(piece)
    return [joined(piece) for piece in pieces]


def label_lists(
    lists: Sequence[Sequence[str]], classes: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Return the class numbers of each list of names or numbers; names take precedence.

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
