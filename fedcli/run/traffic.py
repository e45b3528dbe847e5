"""What a client receives and sends in a round, before anybody has trained."""

import math
from dataclasses import dataclass, replace

from fedcli.codecs import Codec
from fedcli.codecs.sizes import ExpectedSize, expected_size
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.encoded import Parts, vector_of
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.safetensors import Layout
from fedcli.plan import TrainPlan
from fedcli.plan.layer_patterns import withheld
from fedcli.run.directory import Run


@dataclass(frozen=True)
class Traffic:
    """Bytes per client and round: of the model, or its delta, that it receives, and of its update.

    They are None where nothing can be said; ``exact`` and ``exact_received`` are false where the
    size depends on values. The headers of encoded files and of updates, a few kB, are not counted.
    """

    received: int | None
    sent: int | None
    exact: bool
    exact_received: bool = True


@dataclass(frozen=True)
class _Group:
    """The tensors that are sent: parameters, and control variates if ``twice``, of a round."""

    layout: Layout
    parts: Parts
    seed: tuple[int, int]
    twice: bool = False

    def plain(self) -> ExpectedSize:
        """Return the size of all tensors as they are."""
        values = self.parts.parameters * (2 if self.twice else 1)
        others = (*self.parts.buffers, *self.parts.counters)
        return ExpectedSize(_bytes(self.layout, (*values, *others)), exact=True)

    def encoded(self, codec: Codec) -> ExpectedSize | None:
        """Return the size of all tensors as a codec encodes them."""
        found = expected_size(codec, vector_of(self.layout, self.parts.parameters, *self.seed))
        if found is None:
            return None
        others = 2 * _count(self.layout, self.parts.buffers)
        others += 8 * _count(self.layout, self.parts.counters)
        return ExpectedSize((2 if self.twice else 1) * found.bytes + others, found.exact)


def traffic(run: Run) -> Traffic:
    """Return what a round will exchange, by the plan.

    Raises what ``Checkpoint`` raises for the latest global model.
    """
    plan, latest = run.info.plan, run.latest_round()
    with Checkpoint(latest.global_model, Kind.GLOBAL) as model:
        layout, whole = _of_updates(plan.train, model.layout, model.metadata), model.size
        parts = Parts.of(layout, model.metadata.roles)
    group = _Group(layout, parts, (run.info.seed, latest.number + 1))
    # control variates are sent beside the parameters that they belong to
    up = replace(group, twice=plan.train.local.reads is not None)
    sent = up.plain() if plan.train.codec is None else up.encoded(plan.train.codec)
    codec = plan.aggregate.codec
    received = ExpectedSize(whole, exact=True) if codec is None else group.encoded(codec)
    # which layers an algorithm leaves with the client, only its network tells
    exact = sent is not None and sent.exact and not plan.train.local.keeps_layers
    exact = exact and plan.secagg is None  # nor how large the shares of masks are
    return Traffic(
        None if received is None else received.bytes,
        None if sent is None else sent.bytes,
        exact,
        received is not None and received.exact,
    )


def _of_updates(plan: TrainPlan, model: Layout, said: Metadata) -> Layout:
    away = withheld(plan.freeze, plan.local_layers, model) | (said.tied or {}).keys()
    return {name: info for name, info in model.items() if name not in away}


def _bytes(layout: Layout, names: tuple[str, ...]) -> int:
    return sum(layout[name].stop - layout[name].start for name in names)


def _count(layout: Layout, names: tuple[str, ...]) -> int:
    return sum(math.prod(layout[name].shape) for name in names)
