"""How many updates a round needs, and the wait for them."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedcli.errors import NotReadyError, UsageError
from fedcli.formats.manifest import Absence
from fedcli.progress import Progress
from fedcli.run.next_command import train_command
from fedcli.run.participation import Invitation, Participation
from fedcli.strategies import Rule

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Quorum:
    """How many updates a round needs: every client's, ``least`` of them, or a full ``buffer``."""

    invitation: Invitation
    least: int | None
    buffer: int | None

    @classmethod
    def of(cls, invitation: Invitation, rule: Rule, min_clients: int | None) -> "Quorum":
        """Read the options. Raises ``UsageError`` for those that exclude each other."""
        if not rule.weigher.asynchronous:
            return cls(invitation, min_clients, None)
        if min_clients is not None:
            raise UsageError(f"--min-clients: with {rule.weighting} weighting, --buffer says it")
        clients = len(invitation.run.info.clients)
        return cls(invitation, None, rule.options["buffer"] or max(1, (clients + 1) // 2))

    def met(self, seen: Participation) -> bool:
        """Return whether nothing is left to wait for."""
        count = len(seen.accepted) + len(self.invitation.covered)
        return not seen.missing and count >= (self.buffer or self.least or 1)

    def may_continue_with(self, rest: Participation) -> bool:
        """Return whether a round may continue with the rest, without bad updates.

        It may not if all clients are required.
        """
        count = len(rest.accepted) + len(self.invitation.covered)
        if needed := self.buffer or self.least:
            return count >= needed
        everybody = self.invitation.named is not None or self.invitation.run.info.clients
        return not everybody and count > 0

    def check(self, seen: Participation) -> None:
        """Raise ``NotReadyError`` that names the missing clients if there are too few."""
        run, round_ = self.invitation.run, self.invitation.round
        delivered = len(seen.accepted) + len(self.invitation.covered)
        expected = delivered + len(seen.missing)
        if self.least is not None and self.least < 1:
            raise UsageError(f"--min-clients: expected 1 or more, found {self.least}")
        if self.least is not None and run.info.clients and self.least > expected:
            raise UsageError(
                f"--min-clients: at most {expected} clients can deliver, found {self.least}"
            )
        needed = self.buffer or self.least or expected or 1
        if delivered >= needed:
            return
        if self.buffer:
            there = set(seen.clients)
            others = [client for client in run.info.clients if client not in there]
            raise NotReadyError(
                f"round {round_.number}: {delivered} of {needed} updates that --buffer asks for",
                hint=train_command(run, others, round_.number, self.invitation.plan),
            )
        names = _names(seen.missing)
        listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        missing = f"; missing: {listed}" if names else ""
        raise NotReadyError(
            f"round {round_.number}: {delivered} of {needed} clients have delivered an update"
            f"{missing}",
            hint=train_command(run, names, round_.number, self.invitation.plan),
        )


def wait_for(
    look: Callable[[], Participation],
    enough: Callable[[Participation], bool],
    seconds: float,
    progress: Progress,
) -> Participation:
    """Poll until there is enough or the time is up; return the last participation seen."""
    deadline = time.monotonic() + seconds
    seen = look()
    said: Sequence[str] = ()
    while not enough(seen) and (left := deadline - time.monotonic()) > 0:
        if (waiting := _names(seen.missing)) != said:
            progress.say(f"waiting for {', '.join(waiting[:10]) or 'more updates'}")
            said = waiting
        time.sleep(min(_POLL_SECONDS, left))
        seen = look()
    return seen


def _names(absences: Iterable[Absence]) -> list[str]:
    return [absence.client for absence in absences]
