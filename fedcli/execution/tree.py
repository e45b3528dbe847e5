"""Trees of partial means: updates are added up in groups, these sums in groups again, and so on.

Each group is one ``aggregate --partial``, and reads no more files than the tree is wide.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.errors import FedcliError, UsageError
from fedcli.execution.in_flight import finished
from fedcli.execution.launching import Steps
from fedcli.execution.scheduler import ClientScheduler
from fedcli.execution.step_arguments import StepOptions
from fedcli.run import Run
from fedcli.strategies import Rule


def check_tree(run: Run, rule: Rule, options: StepOptions) -> None:
    """Raise ``UsageError`` unless the rule's results add up, from updates that need not be told."""
    plan = run.info.plan.with_options(options.training, options.aggregation)
    for wrong, why in (
        (not rule.adds_up, f"{rule.reduce} with {rule.weighting} weighting does not add up"),
        (plan.secagg is not None, "masked updates are opened in one sum"),
        (bool(run.info.members), "a partial mean carries no signatures of the updates in it"),
        (bool(plan.aggregate.client_level), "noise needs the step of every client, to clip it"),
        (plan.aggregate.max_norm is not None, "--max-norm needs the step of every client"),
    ):
        if wrong:
            raise UsageError(
                f"--fan-out: {why}",
                hint="leave it out; trees are for means weighted by examples or uniform, such as"
                " --strategy fedavg",
            )


@dataclass(frozen=True)
class Tree:
    """Adds up the updates of any round of a run, ``fan_out`` at a time, ``jobs`` at once."""

    run: Run
    steps: Steps
    options: StepOptions
    fan_out: int
    jobs: int

    def root(self, number: int, clients: Sequence[str]) -> list[str]:
        """Write partial means; return what is left to combine, at most ``fan_out`` members.

        Raises the error of the first group that fails.
        """
        members, level = list(clients), 0
        while len(members) > self.fan_out:
            level += 1
            cuts = range(0, len(members), self.fan_out)
            groups = {
                self._file(number, level, index): members[first : first + self.fan_out]
                for index, first in enumerate(cuts)
            }
            self._add_up(number, groups)
            members = [str(file) for file in groups]
        return members

    def _file(self, number: int, level: int, index: int) -> Path:
        return self.run.round(number).partial(f"{level}-{index}").absolute()

    def _add_up(self, number: int, groups: dict[Path, list[str]]) -> None:
        words = self.options.for_partial(number)

        def submit(file: Path) -> Future[dict[str, Any]]:
            named = ["--partial", "--output", str(file), "--force", *words]
            return self.steps.submit("aggregate", *groups[file], *named)

        try:
            for _, future in finished(submit, groups, self.jobs):
                future.result()
        except FedcliError:
            self.steps.stop()
            raise


def members_of(scheduler: ClientScheduler, number: int, clients: Sequence[str]) -> list[str]:
    """Return what ``aggregate`` combines: the root of a tree, or nothing, for every update."""
    run, fan_out = scheduler.run, scheduler.options.fan_out
    if fan_out is None:
        return []
    there = {*run.round(number).delivered()}
    delivered = [client for client in clients if client in there]
    if len(delivered) <= fan_out:
        return []
    jobs = scheduler.capacity.by_cores(len(delivered))
    return Tree(run, scheduler.steps, scheduler.options, fan_out, jobs).root(number, delivered)
