"""Open the sum of a round's masked updates: close the round, and let its members answer."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from fedcli.errors import FedcliError
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
        after = masked_progress(run, run.round(number))
        if failures and after is not None and not after.is_ready:
            raise failures[0]
        for failure in failures:
            progress.say(failure.message)

    def _answers(self, number: int, members: Sequence[str]) -> list[FedcliError]:
        steps, failures = self.clients.steps, list[FedcliError]()
        with ThreadPoolExecutor(self.clients.capacity.by_cores(len(members) or 1)) as pool:
            pending = {
                pool.submit(steps.launch, "unmask", "--id", member, "--round", str(number)): member
                for member in members
            }
            try:
                for future in as_completed(pending):
                    error = future.exception()
                    if not isinstance(error, FedcliError):
                        future.result()
                    else:
                        failures.append(self._named(error, pending[future], number))
            except BaseException:
                steps.stop()  # before the pool waits for its threads, which wait for processes
                raise
        return failures

    def _named(self, error: FedcliError, member: str, number: int) -> FedcliError:
        alone = f"alone: {unmask_command(self.clients.run, member)}"
        message = f"client {member} has not answered for round {number}: {error.message}"
        hint = f"{error.hint}; {alone}" if error.hint else alone
        return error.amended(message=message, hint=hint, client=member)
