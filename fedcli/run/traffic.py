"""What a client receives and sends in a round, before anybody has trained."""

import math
from dataclasses import dataclass

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
    """Bytes per client and round: of the global model that it receives, of its update's tensors.

    ``exact`` is false where the size of an update depends on its values; ``sent`` is None where
    nothing can be said. The headers of updates, a few kB, are not counted.
    """

    received: int
    sent: int | None
    exact: bool


def traffic(run: Run) -> Traffic:
    """Return what the open round will exchange, by the plan.

    Raises what ``Checkpoint`` raises for the latest global model.
    """
    plan, latest = run.info.plan.train, run.latest_round()
    with Checkpoint(latest.global_model, Kind.GLOBAL) as model:
        layout, received = _of_updates(plan, model.layout, model.metadata), model.size
        parts = Parts.of(layout, model.metadata.roles)
    # control variates are sent beside the parameters that they belong to
    groups = [parts.parameters] * (1 if plan.local.reads is None else 2)
    if plan.codec is None:
        sizes = [ExpectedSize(_bytes(layout, names), exact=True) for names in groups]
        others = _bytes(layout, (*parts.buffers, *parts.counters))
    else:
        seed, number = run.info.seed, latest.number + 1
        vectors = [vector_of(layout, names, seed, number) for names in groups]
        found = [expected_size(plan.codec, vector) for vector in vectors]
        sizes = [size for size in found if size is not None]
        others = 2 * _count(layout, parts.buffers) + 8 * _count(layout, parts.counters)
    known = len(sizes) == len(groups)
    sent = others + sum(size.bytes for size in sizes) if known else None
    # which layers an algorithm leaves with the client, only its network tells
    exact = known and all(size.exact for size in sizes) and not plan.local.keeps_layers
    return Traffic(received, sent, exact)


def _of_updates(plan: TrainPlan, model: Layout, said: Metadata) -> Layout:
    away = withheld(plan.freeze, plan.local_layers, model) | (said.tied or {}).keys()
    return {name: info for name, info in model.items() if name not in away}


def _bytes(layout: Layout, names: tuple[str, ...]) -> int:
    return sum(layout[name].stop - layout[name].start for name in names)


def _count(layout: Layout, names: tuple[str, ...]) -> int:
    return sum(math.prod(layout[name].shape) for name in names)
