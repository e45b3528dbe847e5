"""What an encoded update sends, and what its encoding has lost."""

import math
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import FedcliError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.diff import difference
from fedcli.formats.encoded import Parts
from fedcli.formats.metadata import Kind
from fedcli.formats.tensor_stats import as_values, pieces
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.run import Run
from fedcli.run.client_state import RESIDUAL, belong_together


@dataclass(frozen=True)
class EncodingFigures:
    """An encoding and what it costs.

    ``bits`` are those of the file for every parameter of the model, ``norm`` is the norm of the
    step that was sent. ``nmse`` is ‖p − c‖² / ‖p‖² of the step p that was to be sent and the step c
    that was; it is known where the client's residual is. All are None without the base model.
    """

    spec: str
    bits: float | None = None
    norm: float | None = None
    nmse: float | None = None


def run_of(path: Path) -> Run | None:
    """Return the run that an update lies in; None if it lies elsewhere."""
    parents = path.absolute().parents
    if len(parents) < 4 or not (parents[3] / "run.json").exists():
        return None
    try:
        return Run.open(parents[3])
    except FedcliError:
        return None


def encoding_figures(update: UpdateTensors, run: Run) -> EncodingFigures:
    """Measure an encoded update that has been decoded. Raises what reading it does."""
    parameters = Parts.of(update.layout, update.metadata.roles).parameters
    count = sum(math.prod(update.layout[name].shape) for name in parameters)
    with Checkpoint(_before(update, run), Kind.GLOBAL) as base:
        sent = math.fsum(difference(base, update, name).squares for name in parameters)
        lost = _lost(update, base, run, parameters)
    return EncodingFigures(
        spec=str(update.codec),
        bits=8 * update.size / count if count else None,
        norm=math.sqrt(sent) if math.isfinite(sent) else None,
        nmse=lost,
    )


def _before(update: UpdateTensors, run: Run) -> Path:
    return run.round((update.metadata.round or 0) - 1).global_model


def _lost(
    update: UpdateTensors, base: Checkpoint, run: Run, parameters: tuple[str, ...]
) -> float | None:
    """Return ‖p − c‖² / ‖p‖² from the residual λ(p − c) that the client kept, if it is here."""
    feedback, round_ = update.metadata.training.feedback, run.round(update.metadata.round or 0)
    path = round_.client_state(update.metadata.client or "")
    if not feedback or not path.exists():
        return None
    try:
        with Checkpoint(path, Kind.CLIENT_STATE) as state:
            if not belong_together(state.metadata, update.metadata):
                return None
            return _nmse(update, base, state, feedback, parameters)
    except (FedcliError, KeyError):
        return None  # the state says nothing that fits


def _nmse(
    update: UpdateTensors,
    base: Checkpoint,
    state: Checkpoint,
    feedback: float,
    parameters: tuple[str, ...],
) -> float | None:
    lost, wanted = 0.0, 0.0
    for name in parameters:
        slot = f"{RESIDUAL}/{name}"
        if state.layout[slot].shape != update.layout[name].shape:
            return None
        for y, x, e in zip(
            pieces(update, name), pieces(base, name), pieces(state, slot), strict=True
        ):
            left = as_values(e) / feedback
            step = as_values(y) - as_values(x) + left
            lost, wanted = lost + float(left @ left), wanted + float(step @ step)
    return lost / wanted if 0 < wanted < math.inf and math.isfinite(lost) else None
