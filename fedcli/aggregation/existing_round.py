"""Check whether a round already has a global model, and whether the same inputs made it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fedcli.aggregation.round_privacy import RoundPrivacy, is_private, options_of
from fedcli.errors import ConflictError, FedcliError, LostError, OvertakenError
from fedcli.formats.checkpoint import digest
from fedcli.formats.manifest import Absence, Manifest
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.plan.aggregate import DOWNLINK, LIMITS, PARTS
from fedcli.plan.client_level import CLIENT_LEVEL
from fedcli.plan.comparison import OtherOption, other_options
from fedcli.run import Run
from fedcli.run.info import client_order
from fedcli.run.participation import EXCLUDED, Invitation, Participation
from fedcli.run.round import Round
from fedcli.run.used_updates import disagreement, header_of
from fedcli.security.signatures import global_fault
from fedcli.strategies import Rule


@dataclass(frozen=True)
class Inputs:
    """The inputs of a round's global model; ``limits`` and ``downlink`` as in ``AggregatePlan``.

    ``privacy`` is None unless the plan protects clients. With ``names_all``, the header of the
    model names every update, however many, as those of older versions do.
    """

    run: Run
    round: Round
    rule: Rule
    taking_part: Participation
    partials: Mapping[str, Path]
    limits: Mapping[str, float]
    downlink: Mapping[str, Any] = field(default_factory=dict)
    privacy: RoundPrivacy | None = None
    names_all: bool = False

    @property
    def beside(self) -> dict[str, Any]:
        """The options of the result that are not the rule's own."""
        return {**self.limits, **self.downlink, **options_of(self.privacy)}

    @property
    def options(self) -> dict[str, Any]:
        """All options that the result depends on."""
        parts = {name: getattr(self.rule, name) for name in PARTS}
        return {**self.rule.options, **parts, **self.beside}

    def prepared_rule(self) -> Rule:
        """Return the rule with the options that follow from the number of updates.

        Raises ``NotReadyError`` for too few updates, and ``UsageError``.
        """
        count = len(self.taking_part.accepted) + len(self.partials)
        return replace(self.rule, options=self.rule.reducer.prepare(count, self.rule.options))


def names_all(round_: Round) -> bool:
    """Return whether the header of a round's model, if there is one, names its updates."""
    model = header_of(round_)
    return model is not None and model.updates is not None


def already_made(
    inputs: Inputs, *, diagnostics: bool, force: bool, repeated: bool = False
) -> Manifest | None:
    """Return the manifest of a complete round that these inputs would reproduce, else None.

    ``repeated`` means that nobody asked for this round by its number: only options are compared,
    since its updates may have been removed, and others arrived, after it was complete.

    With ``force``, also return None if aggregating again would restore lost files, add figures
    that were not measured, or call a user's own function, which may have changed. Raises
    ``ConflictError`` that says what differs; with ``force`` only if later rounds depend on it.
    """
    if not inputs.round.global_model.exists():
        return None
    try:
        manifest = check_options(inputs) if repeated else check_unchanged(inputs)
    except ConflictError as error:
        if not force:
            raise
        if not isinstance(error, LostError):
            check_replaceable(inputs.run, inputs.round)
        return None
    measured = not manifest.accepted or any(c.norm is not None for c in manifest.accepted)
    measurable = not is_private(inputs.privacy)
    if force and (":" in inputs.rule.reduce or (diagnostics and measurable and not measured)):
        return None
    return manifest


def check_unchanged(inputs: Inputs) -> Manifest:
    """Return the manifest of a complete round that these inputs would reproduce.

    Raises ``ConflictError`` that says what differs or was lost, and what
    ``Inputs.prepared_rule`` raises.
    """
    manifest = check_options(inputs)
    inputs = _without_known_bad(inputs, manifest)
    if difference := _other_updates(manifest, inputs):
        raise _conflict(inputs.round, f"was made {difference}")
    return manifest


def check_options(inputs: Inputs) -> Manifest:
    """Return the manifest of a complete round that was made with these options.

    Raises ``ConflictError`` that says what differs or was lost, and ``NotReadyError`` for a rule
    that needs more updates.
    """
    run, round_ = inputs.run, inputs.round
    manifest = _read_intact(run, round_)
    if manifest.base != digest(run.round(round_.number - 1).global_model):
        raise _conflict(round_, "was made from another base model")
    if others := other_rule(manifest, inputs.rule, inputs.beside):
        raise _conflict(round_, f"was made with {'; '.join(map(str, others))}")
    if manifest.server_state is not None and not _is(round_.server_state, manifest.server_state):
        raise LostError(
            f"is missing, or is not the state that {round_.manifest} names",
            hint="--force restores it",
            path=round_.server_state,
        )
    return manifest


def _read_intact(run: Run, round_: Round) -> Manifest:
    """Read the manifest that describes a round's global model. Raises ``LostError``."""
    manifest = Manifest.try_read(round_.manifest)
    if manifest is None:
        raise _conflict(round_, f"{round_.manifest} does not say what it was made from", LostError)
    if manifest.global_model != digest(round_.global_model):
        raise _conflict(round_, f"is not the model that {round_.manifest} describes", LostError)
    if fault := disagreement(manifest, header_of(round_)):
        raise _conflict(round_, f"{round_.manifest} {fault} than its header", LostError)
    if fault := global_fault(run, round_, manifest.global_model):
        raise LostError(f"{fault}", hint="--force replaces it", path=round_.global_model)
    return manifest


def other_rule(manifest: Manifest, rule: Rule, beside: Mapping[str, Any]) -> list[OtherOption]:
    """Return the options in which a round was made otherwise.

    ``beside`` holds the options that are not the rule's own: limits, the encoding of the model, and
    what protects clients. Raises ``NotReadyError`` for a rule that needs more updates than it had.
    """
    then = {**manifest.limits, **manifest.downlink, **manifest.client_level}
    others = other_options(then, beside, (*LIMITS, *DOWNLINK, *CLIENT_LEVEL))
    others += other_options(vars(manifest), vars(rule), PARTS)
    if others:
        return others
    count = len(manifest.accepted) + len(manifest.partials)
    now = rule.reducer.prepare(count, rule.options)
    # the buffer only decides when a round is complete
    return other_options(manifest.options, now, [name for name in now if name != "buffer"])


def check_invitation(inputs: Inputs, invitation: Invitation) -> None:
    """Raise ``ConflictError`` if other clients, or partial means, were asked for in a round.

    Clients that were not there then, and those whose updates were removed since, are no difference.
    """
    round_ = inputs.round
    manifest = _read_intact(inputs.run, round_)
    excluded = [one.client for one in manifest.rejected if one.reason == EXCLUDED]
    sampled = invitation.sampled(manifest.round)
    then = {"exclude": client_order(excluded), "clients_per_round": _count(manifest.sampled)}
    now = {"exclude": client_order(invitation.excluded), "clients_per_round": _count(sampled)}
    if others := other_options(then, now, now):
        raise _conflict(round_, f"was made with {'; '.join(map(str, others))}")
    used = [entry.client for entry in manifest.accepted]
    if invitation.named is not None and not set(used) <= set(invitation.named):
        names = ", ".join(invitation.named) or "none"
        raise _conflict(round_, f"was made from clients {', '.join(used)}, not {names}")
    if difference := _other_partials(manifest, inputs):
        raise _conflict(round_, f"was made {difference}")


def _count(clients: Collection[str] | None) -> int | None:
    return None if clients is None else len(clients)


def _without_known_bad(inputs: Inputs, manifest: Manifest) -> Inputs:
    """Leave out the updates that the manifest lists as rejected and that have not changed."""
    accepted = set(inputs.taking_part.accepted)
    bad = [
        absence
        for absence in manifest.rejected
        if (absence.round, absence.client) in accepted
        and absence.round is not None
        and absence.sha256 == digest_if_readable(inputs.run, absence.round, absence.client)
    ]
    taking_part = inputs.taking_part.without(bad)
    used = {(entry.round, entry.client) for entry in manifest.accepted}
    others = [Absence(c, "", n) for n, c in taking_part.accepted if (n, c) not in used]
    if 0 < len(others) <= manifest.unlisted:
        taking_part = taking_part.without(others)
    return replace(inputs, taking_part=taking_part)


def digest_if_readable(run: Run, number: int, client: str) -> str | None:
    """Return the SHA-256 of an update, None if it cannot be read or is too large to be read."""
    try:
        return digest(run.round(number).update(client), most=run.largest_update(number))
    except FedcliError:
        return None


def _is(path: Path, sha256: str) -> bool:
    return path.exists() and digest(path) == sha256


def _other_updates(manifest: Manifest, inputs: Inputs) -> str | None:
    if tuple((c.round, c.client) for c in manifest.accepted) != inputs.taking_part.accepted:
        before = ", ".join(entry.client for entry in manifest.accepted) or "none"
        now = ", ".join(inputs.taking_part.clients) or "none"
        return f"from clients {before}, not {now}"
    for entry in manifest.accepted:
        if entry.sha256 != digest(inputs.run.round(entry.round).update(entry.client)):
            return f"from another update of client {entry.client}"
    return _other_partials(manifest, inputs)


def _other_partials(manifest: Manifest, inputs: Inputs) -> str | None:
    partials = {name: digest(path) for name, path in inputs.partials.items()}
    if {part.name: part.sha256 for part in manifest.partials} != partials:
        return "from other partial means"
    return None


def _conflict(
    round_: Round, difference: str, error: type[ConflictError] = ConflictError
) -> ConflictError:
    return error(f"exists, and {difference}", hint="--force replaces it", path=round_.global_model)


def check_replaceable(run: Run, round_: Round) -> None:
    """Raise ``ConflictError`` if a later round was trained from this round's global model."""
    for later in run.rounds():
        if later.number > round_.number and (later.global_model.exists() or later.delivered()):
            raise ConflictError(
                f"round {later.number} was trained from it",
                hint=f"remove {later.path} and every later round before it is replaced",
                path=round_.global_model,
            )


def check_free(inputs: Inputs, sha256: str, *, force: bool) -> bool:
    """Return whether a global model with this SHA-256 must replace another one.

    Raises ``OvertakenError`` if another model exists and ``force`` is not given, and
    ``ConflictError`` if a later round was trained from it, rather than from this one.
    """
    round_, path = inputs.round, inputs.round.global_model
    if not path.exists() or _is(path, sha256):
        return False
    if not force:
        raise OvertakenError("another process has just written it", path=path)
    if not _is_base_of_next(inputs.run, round_, sha256):
        check_replaceable(inputs.run, round_)
    return True


def _is_base_of_next(run: Run, round_: Round, sha256: str) -> bool:
    """Return whether the next model, or else every update for it, was made from this model."""
    after = run.round(round_.number + 1)
    if (model := header_of(after)) is not None:
        return model.base == sha256
    updates = [_base_of_update(after, client) for client in after.delivered()]
    return bool(updates) and set(updates) == {sha256}


def _base_of_update(round_: Round, client: str) -> str | None:
    try:
        with UpdateTensors(round_.update(client)) as update:
            return update.metadata.base
    except FedcliError:
        return None
