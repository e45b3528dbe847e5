"""Whether a round has its global model already, and was made from the same inputs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedcli.checkpoint import digest
from fedcli.errors import ConflictError, FedcliError
from fedcli.files import second_name, write_bytes
from fedcli.manifest import Manifest, read_manifest
from fedcli.participation import Participation
from fedcli.run import Round, Run
from fedcli.strategies import Rule


class LostStateError(ConflictError):
    """The same inputs made this round, and what the server kept for the next round is lost."""


def check_unchanged(
    run: Run,
    round_: Round,
    rule: Rule,
    taking_part: Participation,
    partials: Mapping[str, Path],
) -> Manifest:
    """Return the manifest of a complete round that the same inputs would give again.

    Raises ``ConflictError`` that says what differs, and ``LostStateError`` where nothing does but
    the server's state.
    """
    manifest = read_manifest(round_.manifest)
    if manifest is None:
        raise _conflict(round_, f"{round_.manifest} does not tell what it was made from")
    if manifest.global_model != digest(round_.global_model):
        raise _conflict(round_, f"is not the model that {round_.manifest} describes")
    if manifest.base != digest(run.round(round_.number - 1).global_model):
        raise _conflict(round_, "was made from another base model")
    if difference := _other_rule(manifest, rule):
        raise _conflict(round_, difference)
    clients = tuple((entry.round, entry.client) for entry in manifest.accepted)
    if clients != taking_part.accepted:
        before = ", ".join(entry.client for entry in manifest.accepted) or "none"
        now = ", ".join(taking_part.clients) or "none"
        raise _conflict(round_, f"was made from clients {before}, not {now}")
    for entry in manifest.accepted:
        if entry.sha256 != digest(run.round(entry.round).update(entry.client)):
            raise _conflict(round_, f"was made from another update of client {entry.client}")
    if {part.name: part.sha256 for part in manifest.partials} != {
        name: digest(path) for name, path in partials.items()
    }:
        raise _conflict(round_, "was made from other partial means")
    if manifest.server_state is not None and not _is(round_.server_state, manifest.server_state):
        raise LostStateError(
            f"{round_.server_state}: is not there, or not what {round_.manifest} names",
            hint="--force makes it again",
        )
    return manifest


def _is(path: Path, sha256: str) -> bool:
    return path.exists() and digest(path) == sha256


def _other_rule(manifest: Manifest, rule: Rule) -> str | None:
    parts: dict[str, tuple[Any, Any]] = {
        "reduce": (manifest.reduce, rule.reduce),
        "server-optimizer": (manifest.server_optimizer, rule.server_optimizer),
        "weighting": (manifest.weighting, rule.weighting),
    }
    for name, value in rule.options.items():
        if value is not None:  # else it follows from the number of updates
            parts[name.replace("_", "-")] = (manifest.options.get(name), value)
    for option, (before, now) in parts.items():
        if before != now:
            return f"was made with --{option} {before}, not {now}"
    return None


def _conflict(round_: Round, difference: str) -> ConflictError:
    return ConflictError(
        f"{round_.global_model}: exists, and {difference}", hint="--force replaces it"
    )


def check_replaceable(run: Run, round_: Round) -> None:
    """Raise ``ConflictError`` when a later round was trained from this round's global model."""
    for later in run.rounds():
        if later.number > round_.number and (later.global_model.exists() or later.delivered()):
            raise ConflictError(
                f"{round_.global_model}: round {later.number} was trained from it",
                hint=f"remove {later.path} and every later round before it is replaced",
            )


@contextmanager
def restored_on_failure(round_: Round) -> Iterator[None]:
    """Put the manifest and the server's state back when the global model, which commits the round,
    did not get there.
    """
    before = round_.manifest.read_bytes() if round_.manifest.exists() else None
    had_state = round_.server_state.exists()
    state = second_name(round_.server_state)
    try:
        yield
    except BaseException:
        if not _describes_global_model(round_):
            if before is None:
                round_.manifest.unlink(missing_ok=True)
            elif before != round_.manifest.read_bytes():
                write_bytes(round_.manifest, before)
            if state is not None:
                state.replace(round_.server_state)
            elif not had_state:
                round_.server_state.unlink(missing_ok=True)
        raise
    finally:
        if state is not None:
            state.unlink(missing_ok=True)


def _describes_global_model(round_: Round) -> bool:
    try:
        manifest = read_manifest(round_.manifest)
        return manifest is not None and manifest.global_model == digest(round_.global_model)
    except FedcliError:
        return False
