"""The server state, kept from round to round: optimizer moments, the result of the last round.

Tensors are named ``<slot>/<parameter>`` for the parameters that updates hold, in float64 for
float64 parameters, else float32. A round's state belongs to its global model and is written
before it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcli.aggregation.base_model import CONTROL, Base, slot_dtype
from fedcli.aggregation.block_files import BlockFile, write_block
from fedcli.aggregation.blocks import Block, Reader
from fedcli.errors import BadInputError, CheckpointError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint, CheckpointWriter, digest
from fedcli.formats.dtypes import Array
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.safetensors import Layout, layout_of
from fedcli.formats.training_record import ServerRecord
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.signatures import signed_server_state
from fedcli.strategies import Rule
from fedcli.strategies.server_optimizers import SlotValues
from fedcli.text import brief


def _prefix(slot: str) -> str:
    """Return the prefix of a slot's tensor names; controls have it in updates already."""
    return "" if slot == CONTROL else f"{slot}/"


@dataclass(frozen=True)
class ServerState:
    """The state that a round starts from.

    ``slots`` maps each slot to its start value, ``sources`` to its tensors from the previous
    round, if any; ``steps`` is the number of optimizer steps so far.
    """

    slots: Mapping[str, float]
    sources: Mapping[str, BlockFile]
    steps: int

    def read(self, block: Block, reader: Reader) -> SlotValues:
        """Read a block of every slot in float64."""
        state = {}
        for slot, start in self.slots.items():
            values = np.full(block.size, start)
            if slot in self.sources:
                np.copyto(values, reader.read(self.sources[slot]))
            state[slot] = values
        return state


@contextmanager
def open_state(rule: Rule, base: Base, recorded: Mapping[str, float]) -> Iterator[ServerState]:
    """Open the state that the previous round left for this rule.

    An optimizer continues if its slots are there, had the same start values, and the values that
    all clients ``recorded`` for it are unchanged; else it starts anew. The center of a clipping
    rule and parameters that were not sent then also start anew.

    Raises ``BadInputError`` if the state, the manifest and the global model of that round do not
    belong together or are not what the coordinator signed, and ``NotReadyError`` if the state is
    missing.
    """
    slots = rule.slots()
    before = base.run.round(base.round.number - 1)
    sha256 = _kept(base.run, before, base.sha256, "anything for this rule") if slots else None
    if sha256 is None:
        yield ServerState(slots, {}, 0)
        return
    with _checked(base.run, before, sha256) as checkpoint:
        continues = _continues(rule, recorded, checkpoint.metadata)
        found = {name.partition("/")[0] for name in checkpoint.layout}
        mine = rule.optimizer.start(rule.options).keys()
        sources = {
            slot: BlockFile(
                checkpoint, base.layout, prefix=_prefix(slot), floats=slot_dtype, missing=start
            )
            for slot, start in slots.items()
            if slot in found and (continues or slot not in mine)
        }
        yield ServerState(slots, sources, (checkpoint.metadata.steps or 0) if continues else 0)


def _continues(rule: Rule, recorded: Mapping[str, float], found: Metadata) -> bool:
    said, optimizer = found.server, rule.optimizer
    if said is None or said.server_optimizer != rule.server_optimizer:
        return False
    if not all(isinstance(value, int | float) for value in said.options.values()):
        return False
    options = {**optimizer.options, **said.options}
    if any(options.get(name) != value for name, value in recorded.items()):
        return False
    try:
        return optimizer.start(options) == optimizer.start(rule.options)
    except OverflowError:  # from a number that no round can have used
        return False


def read_slot(run: Run, round_number: int, slot: str) -> tuple[dict[str, Array], str | None]:
    """Return the server's arrays in a slot, by parameter name, for the clients of a round.

    Also return the SHA-256 of the previous round's state file. The result is ``({}, None)`` if
    there was no previous round or it kept no such slot.

    Raises what ``open_state`` raises, and ``NotReadyError`` if the previous round's manifest,
    which says whether there is a state if nothing is signed, is missing.
    """
    before = run.round(round_number - 1)
    sha256 = _kept(run, before, digest(before.global_model), slot)
    if sha256 is None:
        return {}, None
    start = f"{slot}/"
    with _checked(run, before, sha256) as checkpoint:
        names = [name for name in checkpoint.layout if name.startswith(start)]
        found = {name.removeprefix(start): checkpoint.tensor(name) for name in names}
    return (found, sha256) if found else ({}, None)


def _kept(run: Run, before: Round, model: str, what: str) -> str | None:
    """Return the SHA-256 of the state that goes with a model of this SHA-256; None for none.

    The coordinator's signature says it; only where nothing is signed does the manifest.
    """
    if run.info.coordinator is not None:
        return signed_server_state(run, before, model)
    manifest = Manifest.try_read(before.manifest)
    if manifest is not None and manifest.global_model == model:
        return manifest.server_state
    if manifest is not None:
        wrong = f"does not describe {before.global_model}"
    elif before.server_state.exists():
        wrong = f"does not say whether {before.server_state} belongs to {before.global_model}"
    elif before.number == 0:
        return None
    else:
        raise NotReadyError(
            f"is missing or not readable; it says whether the server keeps {what}",
            hint=f"copy it and the server_state.safetensors next to it to {before.path}",
            path=before.manifest,
        )
    raise BadInputError(wrong, hint=_hint(run, before), path=before.manifest)


def _hint(run: Run, round_: Round) -> str:
    manifest = Manifest.try_read(round_.manifest)
    strategy = f" --strategy {manifest.strategy}" if manifest else ""
    command = run.command(f"aggregate --round {round_.number}{strategy} --force")
    return f"aggregate it again with the options of that round: {command}"


@contextmanager
def _checked(run: Run, round_: Round, sha256: str) -> Iterator[Checkpoint]:
    hint = _hint(run, round_)
    names = round_.manifest if run.info.coordinator is None else round_.global_signature
    wrong = BadInputError(
        f"is not the state that {names} names", hint=hint, path=round_.server_state
    )
    try:
        opened = Checkpoint(round_.server_state, Kind.SERVER_STATE)
    except NotReadyError as error:
        raise error.amended(hint=hint) from None
    except CheckpointError:
        raise wrong from None
    with opened as checkpoint:
        if checkpoint.digest() != sha256:
            raise wrong
        _check_tensors(checkpoint, round_)
        yield checkpoint


def _check_tensors(state: Checkpoint, round_: Round) -> None:
    """Raise ``BadInputError`` for a tensor that fits no parameter of the round's model."""
    with Checkpoint(round_.global_model, Kind.GLOBAL) as model:
        layout = model.layout
    for name, found in state.layout.items():
        kept_for = layout.get(name.partition("/")[2])
        if kept_for is None or (found.dtype, found.shape) != (
            slot_dtype(kept_for.dtype),
            kept_for.shape,
        ):
            raise BadInputError(
                f"tensor {brief(name)} matches no parameter of {round_.global_model}",
                path=state.path,
            )


Kinds = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]  # dtype and shape by tensor name


def state_layout(rule: Rule, base: Base, more: Kinds) -> Layout:
    """Return the layout of the state that a round ends with; ``more`` are further tensors."""
    names = {slot: base.parameters() for slot in rule.slots()}
    if CONTROL in names:
        names[CONTROL] = base.controls()
    kinds = {
        _prefix(slot) + name: (slot_dtype(base.layout[name].dtype), base.layout[name].shape)
        for slot in names
        for name in names[slot]
    }
    return layout_of({**kinds, **more})


def state_metadata(
    rule: Rule, recorded: Mapping[str, float], model: Metadata, steps: int
) -> Metadata:
    """Describe the state that belongs to a global model; ``recorded`` is as in ``open_state``."""
    names = rule.optimizer.options.keys()
    return Metadata(
        kind=Kind.SERVER_STATE,
        run=model.run,
        round=model.round,
        base=model.base,
        server=ServerRecord(
            rule.server_optimizer, {**{name: rule.options[name] for name in names}, **recorded}
        ),
        updates=model.updates,
        partials=model.partials,
        list_sha256=model.list_sha256,
        steps=steps,
        format=model.format,
    )


def write_state(writer: CheckpointWriter, block: Block, state: Mapping[str, Array]) -> None:
    """Write a block of every slot."""
    for slot, values in state.items():
        write_block(writer, block, values, _prefix(slot))
