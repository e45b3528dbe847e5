"""The ``training`` section of a checkpoint: how its tensors were made.

It carries facts from client to server: aggregation rules, the training of the next round and
``verify`` depend on what an update records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fedcli.formats.ledger import PrivacyEvent
from fedcli.formats.records import Sparse, decode, encode


@dataclass(frozen=True)
class TrainingRecord(Sparse):
    """The training behind an update, a client state, or all updates of a partial mean.

    In the file it is one flat object. ``lr`` is the learning rate of the round, ``steps`` the
    number of local optimizer steps; ``epochs`` is None if steps were asked for. ``freeze`` and
    ``local_layers`` are patterns of tensors that the update does not hold. ``initial_loss`` is the
    loss of the base model on the client's examples, ``normalized_steps`` the sum of the steps if
    every gradient were 1. ``examples`` is a keyed digest of labels and examples; ``state`` and
    ``server_state`` are those of the client states and the server state that training started from.
    ``encode`` and ``feedback`` say how the update is encoded, and what share of the loss is kept.
    ``privacy`` is what the training spent, with an upper bound of q, and ``noise_key`` the SHA-256
    of the key of its noise.

    ``options`` holds all other keys unchanged: hyper-parameters of one algorithm, values meant only
    for people, and whatever another program records.
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
    encode: str | None = None
    feedback: float | None = None
    privacy: PrivacyEvent | None = None
    noise_key: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, metadata={"rest": True})

    def get(self, key: str) -> Any:
        """Return the value recorded under a key of the file, or None."""
        return vars(self).get(key, self.options.get(key))

    def plus(self, more: Mapping[str, Any]) -> Self:
        """Return a copy with more values, by keys of the file. Raises ``ValueError``."""
        return decode(type(self), {**encode(self), **more})

    @property
    def started_from(self) -> tuple[str, ...]:
        """The SHA-256s of the client states that the training started from."""
        return (self.state,) if isinstance(self.state, str) else self.state or ()


@dataclass(frozen=True)
class ServerRecord(Sparse):
    """The server optimizer that a server state belongs to.

    ``options`` holds the options of the optimizer, and what all clients recorded for it.
    """

    server_optimizer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InterruptedRecord:
    """The ``training`` section of a training checkpoint.

    ``update`` is the metadata of the future update, without the results of training; ``versions``
    are those of the programs; ``state`` is the trainer's own.
    """

    update: Mapping[str, Any]
    versions: Mapping[str, str]
    state: Mapping[str, Any]
