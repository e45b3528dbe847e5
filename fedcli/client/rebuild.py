"""Rebuild global models that are not here: from the deltas of their rounds, and from the seed."""

from contextlib import suppress

from fedcli.errors import FedcliError
from fedcli.formats.checkpoint import Checkpoint, prepare
from fedcli.formats.delta import check_result, delta_metadata, rebuild
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.models.weights import InitialModel, initial_tensors
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.run.round import Round
from fedcli.security.global_model import check_global_model


def rebuild_models(
    run: Run, own_model: str | None = None, progress: Progress | None = None
) -> tuple[Round, ...]:
    """Write the global models that are missing after the latest one, as far as deltas are here.

    The starting model is drawn from the seed of the run. Each model is written only if it has the
    SHA-256 that its delta names, and that is signed if the run has a coordinator. Returns their
    rounds. Raises ``BadInputError``, ``CheckpointError``, ``UsageError`` and ``StorageError``.
    """
    progress = progress or Silence()
    here = [round_.number for round_ in run.complete_rounds()]
    number = max(here, default=-1) + 1
    made = []
    while (round_ := run.round(number)).delta.exists():
        if number == 0:
            _write_start(run, round_, own_model)
        else:
            _write_next(run, round_)
        progress.say(f"round {number}: the global model is rebuilt from {round_.delta.name}")
        made.append(round_)
        number += 1
    return tuple(made)


def _write_next(run: Run, round_: Round) -> None:
    before = run.round(round_.number - 1)
    with (
        Checkpoint(round_.delta, Kind.DELTA) as delta,
        Checkpoint(before.global_model, Kind.GLOBAL) as base,
    ):
        check_global_model(run, round_, delta.metadata, delta.metadata.result or "")
        rebuild(delta, base, round_.global_model)


def _write_start(run: Run, round_: Round, own_model: str | None) -> None:
    model = drawn_model(run.info, own_model)
    metadata = start_metadata(run, model)
    with (
        Checkpoint(round_.delta, Kind.DELTA) as delta,
        prepare(round_.global_model, model.tensors, metadata, replace=False) as written,
    ):
        check_global_model(run, round_, delta.metadata, written.sha256)
        check_result(delta, written.sha256)


def can_be_drawn(info: RunInfo) -> bool:
    """Return whether the starting model follows from ``run.json`` alone."""
    return not info.origin.get("init_from") and not info.origin.get("pretrained")


def drawn_model(info: RunInfo, own_model: str | None = None) -> InitialModel:
    """Draw the starting model of a run from its seed."""
    return initial_tensors(
        info.model, len(info.dataset.classes), info.dataset.shape, info.seed, own_factory=own_model
    )


def is_drawn(run: Run, own_model: str | None) -> bool:
    """Return whether drawing the starting model here gives that of the run, bit by bit."""
    with suppress(FedcliError), Checkpoint(run.round(0).global_model, Kind.GLOBAL) as model:
        drawn, values = drawn_model(run.info, own_model).tensors, model.tensors()
        return drawn.keys() == values.keys() and all(
            drawn[name].tobytes() == values[name].tobytes() for name in drawn
        )
    return False


def start_metadata(run: Run, model: InitialModel) -> Metadata:
    """Describe the starting model of a run."""
    roles = {name: role for name, role in model.roles.items() if role != Role.PARAMETER}
    return Metadata(
        Kind.GLOBAL, run.id, round=0, roles=roles, tied=model.tied or None, seed=run.info.seed
    )


def write_start_delta(run: Run, model: Metadata, sha256: str) -> None:
    """Write the delta of round 0, which names the starting model and holds nothing of it."""
    with prepare(run.round(0).delta, {}, delta_metadata(model, None, sha256)):
        pass
