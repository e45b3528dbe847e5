"""Participation in a round: whose update counts, and who is missing, late or rejected, and why."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fedcli.errors import UsageError
from fedcli.formats.manifest import Absence, Manifest
from fedcli.plan import AggregatePlan
from fedcli.run.directory import Run
from fedcli.run.info import client_order
from fedcli.run.round import Round
from fedcli.run.sampling import is_sampled, sampled_clients
from fedcli.run.used_updates import used_updates

EXCLUDED = "excluded"
CLOSED = "not in the list of masked updates that is signed"
COVERED = "in a partial mean already"  # and so in the global model
LISTED = 10_000  # absences; an attacker may cause any number
_LATE_ROUNDS = 3  # rounds to search for updates that arrived after their round was complete


@dataclass(frozen=True)
class Participation:
    """The clients of a round. ``accepted`` has each update's own round, which may be earlier.

    ``sampled`` is None if all clients were to take part.
    """

    accepted: tuple[tuple[int, str], ...]
    missing: tuple[Absence, ...]
    late: tuple[Absence, ...]
    rejected: tuple[Absence, ...]
    sampled: tuple[str, ...] | None

    @property
    def clients(self) -> tuple[str, ...]:
        """The clients whose update counts."""
        return tuple(client for _, client in self.accepted)

    def without(self, bad: Sequence[Absence]) -> "Participation":
        """Return a copy that rejects these bad updates."""
        gone = {(absence.round, absence.client) for absence in bad}
        kept = tuple(one for one in self.accepted if one not in gone)
        return replace(self, accepted=kept, rejected=(*self.rejected, *bad))

    def listed(self, known: Collection[str], most: int = LISTED) -> tuple["Participation", int]:
        """Return a copy that lists at most so many absences, and how many it leaves out.

        Those of the clients in ``known`` come first: anybody can put files there for others.
        """
        clients = frozenset(known)
        everything = (self.missing, self.late, self.rejected)
        kept: list[tuple[Absence, ...]] = []
        for absences in everything:
            places = most - sum(map(len, kept))
            if len(absences) > places:
                absences = tuple(sorted(absences, key=lambda a: a.client not in clients))
            kept.append(absences[:places])
        missing, late, rejected = kept
        unlisted = sum(map(len, everything)) - sum(map(len, kept))
        return replace(self, missing=missing, late=late, rejected=rejected), unlisted


@dataclass(frozen=True)
class Invitation:
    """Who may take part in a round.

    Only ``named`` clients are wanted (None: all); ``covered`` clients are in a partial mean, and
    those that are ``too_late`` in no sum of masked updates, which is closed. With
    ``max_staleness``, updates that are late by up to this many rounds count.
    """

    run: Run
    round: Round
    plan: AggregatePlan
    excluded: Collection[str] = ()
    named: Collection[str] | None = None
    covered: Collection[str] = ()
    too_late: Collection[str] = ()
    max_staleness: int | None = None

    def sampled(self, number: int) -> tuple[str, ...] | None:
        """Return the clients sampled for a round; None for all."""
        if not is_sampled(self.plan):
            return None
        if number not in self._samples:
            self._samples[number] = sampled_clients(self.run.info, number, self.plan)
        return self._samples[number]

    @cached_property
    def _samples(self) -> dict[int, tuple[str, ...]]:
        return {}

    @cached_property
    def _clients(self) -> frozenset[str]:
        return frozenset(self.run.info.clients)

    @cached_property
    def _turned_away(self) -> dict[str, str]:
        """Why clients do not count, whatever the round of their update."""
        reasons = (CLOSED, self.too_late), (COVERED, self.covered), (EXCLUDED, self.excluded)
        return {client: reason for reason, clients in reasons for client in clients}

    @cached_property
    def _invited(self) -> frozenset[str]:
        return frozenset(self.named or ())

    @cached_property
    def _drawn(self) -> dict[int, frozenset[str] | None]:
        return {}

    def _is_drawn(self, client: str, number: int) -> bool:
        if number not in self._drawn:
            sampled = self.sampled(number)
            self._drawn[number] = None if sampled is None else frozenset(sampled)
        drawn = self._drawn[number]
        return drawn is None or client in drawn

    def reason_against(self, client: str, number: int) -> str | None:
        """Return why an existing update does not count, or None."""
        if client in self._turned_away:
            return self._turned_away[client]
        if self._clients and client not in self._clients:
            return "not a client of this run"
        if self.named is not None and client not in self._invited:
            return "not named on the command line"
        if self.named is None and not self._is_drawn(client, number):
            return "not sampled"
        return None


def participation(invitation: Invitation) -> Participation:
    """Determine who has delivered. Raises ``UsageError`` if nobody can."""
    round_, info = invitation.round, invitation.run.info
    excluded, covered = set(invitation.excluded), set(invitation.covered)
    covered |= set(invitation.too_late)
    sampled = invitation.sampled(round_.number)
    delivered = dict.fromkeys(round_.delivered())
    against = {c: invitation.reason_against(c, round_.number) for c in delivered}
    against.update(dict.fromkeys(excluded, EXCLUDED))
    wanted = invitation.named if invitation.named is not None else sampled or info.clients
    expected = client_order(set(wanted or delivered) - excluded - covered)
    if wanted and not expected and not covered:
        raise UsageError("--exclude: leaves no client of this round")
    missing = () if invitation.max_staleness is not None else expected
    accepted = {c: round_.number for c in delivered if against[c] is None}
    rejected = [
        Absence(client, reason, round_.number if client in delivered else None)
        for client in client_order(against)
        if (reason := against[client]) not in (None, CLOSED)
    ]
    late, rejected_late = _from_earlier_rounds(invitation, accepted)
    return Participation(
        accepted=tuple((accepted[client], client) for client in client_order(accepted)),
        missing=tuple(
            Absence(client, "has not delivered") for client in missing if client not in accepted
        ),
        late=(*(Absence(c, CLOSED, round_.number) for c in invitation.too_late), *late),
        rejected=(*rejected, *rejected_late),
        sampled=sampled,
    )


def _from_earlier_rounds(
    invitation: Invitation, accepted: dict[str, int]
) -> tuple[list[Absence], list[Absence]]:
    """Return late and rejected updates of earlier rounds; add those that count to ``accepted``.

    An update that is too late to count is late, even if its client is rejected.
    """
    run, now = invitation.run, invitation.round.number
    allowed = invitation.max_staleness or 0
    late, rejected = [], []
    for number, client in unreported(run, now, allowed):
        if now - number > allowed:
            reason = f"round {number} was complete when it arrived"
            if allowed:
                reason = f"{now - number} rounds late, more than --max-staleness {allowed}"
            late.append(Absence(client, reason, number))
        elif against := invitation.reason_against(client, number):
            rejected.append(Absence(client, against, number))
        elif client in accepted:
            reason = f"replaced by its update of round {accepted[client]}"
            late.append(Absence(client, reason, number))
        else:
            accepted[client] = number
    return late, rejected


def unreported(run: Run, now: int, max_staleness: int) -> list[tuple[int, str]]:
    """Return late updates that no manifest has reported yet, as (round, client), newest first.

    The manifest of round ``now`` will, whether they count or are too old by then. Raises what
    ``used_updates`` does.
    """
    oldest = max(1, now - max_staleness - _LATE_ROUNDS)
    settled = _settled(run, oldest, now, max_staleness)
    return [
        (number, client)
        for number in range(now - 1, oldest - 1, -1)
        for client in run.round(number).delivered()
        if (client, number) not in settled
    ]


def _settled(run: Run, oldest: int, now: int, max_staleness: int) -> set[tuple[str, int]]:
    """Return the updates, as (client, round), that a model used or a manifest has reported.

    An update that arrives after its client was rejected without one is not among them: it is late.
    Where late updates count, the models decide which were used; else none counts, and the manifests
    say which were reported.
    """
    settled = used_updates(run, oldest, now) if max_staleness else set()
    for number in range(oldest, now):
        manifest = Manifest.try_read(run.round(number).manifest)
        if manifest is not None:
            absences = (*manifest.rejected, *manifest.late)
            settled |= {(e.client, e.round) for e in absences if e.round is not None}
        if max_staleness:
            continue
        if manifest is None:
            # Any late update may have gone into that round.
            for before in range(oldest, number + 1):
                settled |= {(client, before) for client in run.round(before).delivered()}
        else:
            settled |= {(entry.client, entry.round) for entry in manifest.accepted}
    return settled
