"""Open the sum of a round's masked updates: close the round, and let its members answer."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from fedcli.errors import FedcliError
from fedcli.execution.in_flight import finished
from fedcli.execution.scheduler import ClientScheduler
from fedcli.masking.progress import masked_progress
from fedcli.plan.sections import option_words
from fedcli.run.next_command import unmask_command


@dataclass(frozen=True)
class MaskedScheduler:
    """Trains the clients of masked rounds, and has the sum opened, as far as it is not yet."""

    clients: ClientScheduler

    def prepare(self, number: int, clients: Sequence[str]) -> int:
        """Train clients, close the round, and collect the answers of its members.

        Returns how many updates are in the sum. A closed round is trained no more. Raises what
        ``ClientScheduler.train`` does, and the error of the first member that did not answer,
        unless enough did.
        """
        run, steps = self.clients.run, self.clients.steps
        if run.round(number).survivors.exists():
            self.clients.progress.advance(len(clients))
        else:
            self.clients.train(number, clients)
        excluded = tuple(self.clients.options.exclude) or None
        asked = option_words({"round": number, "exclude": excluded})
        closed = steps.launch("aggregate", "--close", *asked)
        self._ask(number, clients)
        return len(closed["survivors"])

    def _ask(self, number: int, members: Sequence[str]) -> None:
        """Have members answer that have not yet. Raises their error if too few do."""
        run, progress = self.clients.run, self.clients.progress
        before = masked_progress(run, run.round(number))
        waiting = [one for one in members if before is None or one in before.waiting]
        failures = self._answers(number, waiting)
        failed = {failure.client for failure in failures}
        answers = (run.round(number).answer(one) for one in waiting if one not in failed)
        self.clients.steps.see(answers)
        after = masked_progress(run, run.round(number))
        if failures and after is not None and not after.is_ready:
            raise failures[0]
        for failure in failures:
            progress.say(failure.message)

    def _answers(self, number: int, members: Sequence[str]) -> list[FedcliError]:
        steps, failures = self.clients.steps, list[FedcliError]()
        needs = (self.clients.run.round(number).survivors,)

        def submit(member: str) -> Future[dict[str, Any]]:
            return steps.submit("unmask", "--id", member, "--round", str(number), needs=needs)

        try:
            limit = self.clients.capacity.by_cores(len(members) or 1)
            for member, future in finished(submit, members, limit):
                error = future.exception()
                if not isinstance(error, FedcliError):
                    future.result()
                else:
                    failures.append(self._named(error, member, number))
        except BaseException:
            steps.stop()
            raise
        return failures

    def _named(self, error: FedcliError, member: str, number: int) -> FedcliError:
        alone = f"alone: {unmask_command(self.clients.run, member)}"
        message = f"client {member} has not answered for round {number}: {error.message}"
        hint = f"{error.hint}; {alone}" if error.hint else alone
        return error.amended(message=message, hint=hint, client=member)
