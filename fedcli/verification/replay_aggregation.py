"""Replay an aggregation as its manifest records it, and compare the bytes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from fedcli.aggregation.commit import write_round
from fedcli.aggregation.existing_round import Inputs, names_all
from fedcli.aggregation.masked_sum import open_sum
from fedcli.aggregation.round_privacy import RoundPrivacy
from fedcli.errors import FedcliError, NotReadyError, OutOfMemoryError, StorageError
from fedcli.formats.checkpoint import digest
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind
from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.run.participation import Participation
from fedcli.run.round import Round
from fedcli.verification.replay_sandbox import (
    CannotReplayError,
    DifferenceError,
    UserCode,
    compare,
    sandbox,
)

_PARTS = ("strategy", "reduce", "server_optimizer", "weighting")


def replay_aggregation(run: Run, round_: Round, manifest: Manifest, own: UserCode) -> None:
    """Aggregate a round again from the updates that its manifest lists as accepted.

    Raises ``CannotReplayError``, ``DifferenceError`` and ``StorageError``.
    """
    if ":" in manifest.reduce and own.reduce != manifest.reduce:
        raise CannotReplayError(f"it was made with {manifest.reduce}; give it with --reduce")
    _check_here(run, round_, manifest)
    partials = {entry.name: _partial(run, entry.name, entry.sha256) for entry in manifest.partials}
    updates = round_.updates.relative_to(run.root)
    # what clients claim counts as far as the plan of their training says
    plan = {"train": run.info.plan.train.as_json(), "aggregate": _rule(manifest)}
    with sandbox(run, round_, round_.manifest, plan, [str(updates), "data"]) as copy:
        try:
            privacy = _privacy(run, copy.info.plan.aggregate, own)
            _open_again(run, round_, copy.round(round_.number), manifest)
            again = _write(copy, round_, manifest, partials, privacy)
        except (StorageError, OutOfMemoryError):
            raise
        except NotReadyError as error:
            raise CannotReplayError(_here(error, copy)) from None
        except FedcliError as error:
            message = f"cannot be replayed: {_here(error, copy)}"
            raise DifferenceError(round_.global_model, message) from None
        _compare_weights(round_, manifest, again)
        _compare_spent(round_, manifest, again)
        made = copy.round(round_.number)
        compare(round_.global_model, made.global_model, Kind.GLOBAL)
        if manifest.delta is not None and round_.delta.exists():
            compare(round_.delta, made.delta, Kind.DELTA)
        if manifest.server_state is not None and round_.server_state.exists():
            compare(round_.server_state, made.server_state, Kind.SERVER_STATE)


def _write(
    copy: Run,
    recorded: Round,
    manifest: Manifest,
    partials: dict[str, Path],
    privacy: RoundPrivacy | None,
) -> Manifest:
    accepted = tuple((entry.round, entry.client) for entry in manifest.accepted)
    seen = Participation(accepted, (), (), (), manifest.sampled)
    typed = {"reduce"} if ":" in manifest.reduce else set()  # by the person who replays
    rule = resolve(copy.info.plan.aggregate, typed)
    round_ = copy.round(recorded.number)
    inputs = Inputs(copy, round_, rule, seen, partials, manifest.limits, manifest.downlink)
    rule = inputs.prepared_rule()
    inputs = replace(inputs, rule=rule, privacy=privacy, names_all=names_all(recorded))
    return write_round(inputs, diagnostics=False, progress=Silence())


def _privacy(run: Run, rule: AggregatePlan, own: UserCode) -> RoundPrivacy | None:
    """Return how a round hid its clients, with the key of the coordinator's noise.

    Members of a masked run have added theirs, which is in the updates. Raises
    ``CannotReplayError`` without that key.
    """
    privacy = RoundPrivacy.of(run, rule, None)
    if privacy is None or privacy.masked or not privacy.how.adds_noise:
        return privacy
    if own.noise_key is None:
        raise CannotReplayError("it needs the noise key that run.json commits to; see --noise-key")
    if own.noise_key.commitment != run.info.noise_key:
        raise CannotReplayError("run.json commits to another noise key than that of --noise-key")
    return replace(privacy, key=own.noise_key)


def _open_again(run: Run, round_: Round, copy: Round, manifest: Manifest) -> None:
    """Open the sum of masked updates again, and compare it with the one that was used.

    Raises ``DifferenceError``, and what ``open_sum`` does.
    """
    if run.info.plan.secagg is None:
        return
    open_sum(run, round_, copy.masked_sum, Silence())
    sha256 = digest(copy.masked_sum)
    if [entry.sha256 for entry in manifest.partials] != [sha256]:
        raise DifferenceError(round_.masked_sum, f"differs when opened again: SHA-256 {sha256}")


def _here(error: FedcliError, copy: Run) -> str:
    return error.message.replace(f"{copy.root}/", "")


def _rule(manifest: Manifest) -> dict[str, Any]:
    """Return the rule that a manifest records, as section ``aggregate`` of a plan."""
    rule = {key: value for key, value in manifest.options.items() if value is not None}
    return rule | {key: getattr(manifest, key) for key in _PARTS} | manifest.client_level


def _check_here(run: Run, round_: Round, manifest: Manifest) -> None:
    """Raise ``CannotReplayError`` for a missing input."""
    before = run.round(round_.number - 1)
    paths = [before.global_model]
    for entry in manifest.accepted:
        paths.append(run.round(entry.round - 1).global_model)
        paths.append(run.round(entry.round).update(entry.client))
    for path in paths:
        if not path.exists():
            name = path.relative_to(run.root).as_posix()
            raise CannotReplayError(f"{name} is not in the run")


def _partial(run: Run, name: str, sha256: str) -> Path:
    for path in sorted(run.root.rglob("*.safetensors")):
        if path.stem == name and path.is_file() and digest(path) == sha256:
            return path.absolute()
    raise CannotReplayError(f"the partial mean {name} is not in the run")


def _compare_weights(round_: Round, recorded: Manifest, again: Manifest) -> None:
    """Raise ``DifferenceError`` if a client's weight is not what the manifest says."""
    for before, now in zip(recorded.accepted, again.accepted, strict=True):
        close = abs(before.weight - now.weight) <= 1e-9 * max(1.0, abs(now.weight))
        if not close or before.kept != now.kept:
            message = (
                f"client {before.client} has weight {now.weight:.6g} in the replay, not"
                f" {before.weight:.6g}"
            )
            raise DifferenceError(round_.manifest, message)


def _compare_spent(round_: Round, recorded: Manifest, again: Manifest) -> None:
    """Raise ``DifferenceError`` if a manifest does not list what its round spent."""
    if not set(again.privacy) <= set(recorded.privacy):
        raise DifferenceError(round_.manifest, "does not list what the round spent of privacy")
