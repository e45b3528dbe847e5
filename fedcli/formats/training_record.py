"""What stands under ``training`` in a checkpoint: how its tensors came to be.

A client and the server meet in it: rules of aggregation, the next round's training and
``verify`` decide by what an update records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fedcli.formats.records import Sparse, decode, encode


@dataclass(frozen=True)
class TrainingRecord(Sparse):
    """What an update says of its training, a client state of its update's, a partial mean of all.

    In the file it is one flat object. ``lr`` is the rate of the round, ``steps`` counts those of
    the local optimizer; ``epochs`` is None where steps were asked for. ``freeze`` and
    ``local_layers`` are patterns of tensors that the update does not hold. ``initial_loss`` is that
    of the global model on the client's examples, ``normalized_steps`` what the steps add up to if
    each gradient were 1. ``examples`` is the SHA-256 of labels and examples, ``state`` that of the
    client states that the training started from, ``server_state`` that of the server's.

    ``options`` are all other keys as they are: hyper-parameters that belong to one algorithm, or
    that nobody but a person reads, and whatever another program records.
    """

    algorithm: str | None = None
    optimizer: str | None = None
    lr: float | None = None
    momentum: float | None = None
    proximal: float | None = None
    precision: str | None = None
    epochs: int | None = None
    steps: int | None = None
    freeze: tuple[str, ...] = ()
    local_layers: tuple[str, ...] = ()
    initial_loss: float | None = None
    normalized_steps: float | None = None
    micro_batch: int | None = None
    compile: bool = False
    device: str | None = None
    threads: int | None = None
    examples: str | None = None
    state: str | tuple[str, ...] | None = None
    server_state: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, metadata={"rest": True})

    def get(self, key: str) -> Any:
        """Return what is recorded under a key of the file; None where nothing is."""
        return vars(self).get(key, self.options.get(key))

    def plus(self, more: Mapping[str, Any]) -> Self:
        """Return it with more recorded, by keys of the file. Raises ``ValueError``."""
        return decode(type(self), {**encode(self), **more})

    @property
    def started_from(self) -> tuple[str, ...]:
        """The SHA-256s of the client states that the training started from."""
        return (self.state,) if isinstance(self.state, str) else self.state or ()


@dataclass(frozen=True)
class ServerRecord(Sparse):
    """What a server state says of the optimizer that keeps it.

    ``options`` are those of the optimizer, whichever it has, and what all clients recorded for it.
    """

    server_optimizer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InterruptedRecord:
    """What a training that is not at its end says of itself.

    ``update`` is the metadata of the update that it is for, without what comes out of the training;
    ``versions`` are those of the programs; ``state`` is free here: where the trainer stands.
    """

    update: Mapping[str, Any]
    versions: Mapping[str, str]
    state: Mapping[str, Any]
