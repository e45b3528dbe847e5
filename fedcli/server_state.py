"""What the server keeps from round to round: an optimizer's moments, the result of the last round.

Tensors are named ``<slot>/<parameter>``; they are float64 for parameters of float64, else
float32. The state of a round belongs to that round's global model and is written before it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.block_files import BlockFile, write_block
from fedcli.blocks import Block, Reader
from fedcli.checkpoint import Checkpoint, CheckpointWriter, Layout, digest, layout_of
from fedcli.dtypes import Array, is_float
from fedcli.errors import BadInputError, NotReadyError
from fedcli.manifest import Manifest, read_manifest
from fedcli.metadata import Kind, Metadata, Role
from fedcli.run import Round, Run
from fedcli.strategies import Rule
from fedcli.updates import Base

State = dict[str, NDArray[np.float64]]


def slot_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that a slot has for parameters of ``dtype``."""
    return dtype if dtype == np.float64 else np.dtype(np.float32)


@dataclass(frozen=True)
class ServerState:
    """The state that a round starts from.

    ``slots`` maps each slot to what it starts from, ``sources`` to what the round before left of
    it; ``steps`` counts the optimizer's steps so far.
    """

    slots: Mapping[str, float]
    sources: Mapping[str, BlockFile]
    steps: int

    def take(self, block: Block, reader: Reader) -> State:
        """Take a block of every slot, in float64."""
        state = {}
        for slot, start in self.slots.items():
            values = np.full(block.size, start)
            if slot in self.sources:
                np.copyto(values, reader.take())
            state[slot] = values
        return state


@contextmanager
def open_state(rule: Rule, base: Base) -> Iterator[ServerState]:
    """Open what the round before left for this rule.

    An optimizer goes on where its slots are there and started as they would now; else it starts
    anew. So does the center of a clipping rule.

    Raises ``BadInputError`` when the state, the manifest and the global model of that round do
    not belong together, and ``NotReadyError`` when the state is missing.
    """
    slots = rule.slots()
    before = base.run.round(base.round.number - 1)
    manifest = _manifest(before, base) if slots else None
    if manifest is None or manifest.server_state is None:
        yield ServerState(slots, {}, 0)
        return
    with _checked(base.run, before, manifest) as checkpoint:
        goes_on = _goes_on(rule, checkpoint.metadata)
        found = {name.partition("/")[0] for name in checkpoint.layout}
        mine = rule.optimizer.start(rule.options).keys()
        sources = {
            slot: BlockFile(checkpoint, base.layout, prefix=f"{slot}/", floats=slot_dtype)
            for slot in slots
            if slot in found and (goes_on or slot not in mine)
        }
        yield ServerState(slots, sources, (checkpoint.metadata.steps or 0) if goes_on else 0)


def _goes_on(rule: Rule, found: Metadata) -> bool:
    training, optimizer = found.training or {}, rule.optimizer
    if training.get("server_optimizer") != rule.server_optimizer:
        return False
    options = {**optimizer.options, **training.get("options", {})}
    return optimizer.start(options) == optimizer.start(rule.options)


def _manifest(before: Round, base: Base) -> Manifest | None:
    """Read what goes with the model that this round starts from; None where nothing was kept."""
    manifest = read_manifest(before.manifest)
    if manifest is None and before.server_state.exists():
        wrong = f"does not tell whether {before.server_state} belongs to {before.global_model}"
    elif manifest is not None and manifest.global_model != base.sha256:
        wrong = f"does not describe {before.global_model}"
    else:
        return manifest
    strategy = f" --strategy {manifest.strategy}" if manifest else ""
    raise BadInputError(f"{before.manifest}: {wrong}", hint=_hint(base.run, before, strategy))


def _hint(run: Run, round_: Round, strategy: str) -> str:
    command = run.command(f"aggregate --round {round_.number}{strategy} --force")
    return f"make it again, with the options of that round: {command}"


@contextmanager
def _checked(run: Run, round_: Round, manifest: Manifest) -> Iterator[Checkpoint]:
    hint = _hint(run, round_, f" --strategy {manifest.strategy}")
    try:
        found = digest(round_.server_state)
    except NotReadyError as error:
        raise NotReadyError(error.message, hint=hint) from None
    if found != manifest.server_state:
        raise BadInputError(
            f"{round_.server_state}: is not the state that {round_.manifest} names", hint=hint
        )
    with Checkpoint(round_.server_state, Kind.SERVER_STATE) as checkpoint:
        yield checkpoint


def state_layout(rule: Rule, base: Base) -> Layout:
    """Lay out the state that a round ends with."""
    roles = base.metadata.roles
    return layout_of(
        {
            f"{slot}/{name}": (slot_dtype(info.dtype), info.shape)
            for slot in rule.slots()
            for name, info in base.layout.items()
            if is_float(info.dtype) and roles.get(name, Role.PARAMETER) == Role.PARAMETER
        }
    )


def state_metadata(rule: Rule, model: Metadata, steps: int) -> Metadata:
    """Describe the state that belongs to a global model."""
    names = rule.optimizer.options.keys()
    return Metadata(
        kind=Kind.SERVER_STATE,
        run=model.run,
        round=model.round,
        base=model.base,
        training={
            "server_optimizer": rule.server_optimizer,
            "options": {name: rule.options[name] for name in names},
        },
        updates=model.updates,
        partials=model.partials,
        steps=steps,
    )


def write_state(writer: CheckpointWriter, block: Block, state: Mapping[str, Array]) -> None:
    """Write a block of every slot, each of its ``slot_dtype``."""
    for slot, values in state.items():
        write_block(writer, block, values, f"{slot}/")
