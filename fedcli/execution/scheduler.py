"""Train the clients of a round in parallel, as many at a time as fit on the machine."""

import contextlib
import math
import os
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from typing import Any

from fedcli.errors import FedcliError, SeveralFailedError
from fedcli.execution.in_flight import finished
from fedcli.execution.jobs import group_size, jobs_by_cores, jobs_by_memory, threads_each
from fedcli.execution.launching import Steps
from fedcli.execution.step_arguments import StepOptions
from fedcli.formats.telemetry import Telemetry
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.next_command import train_command
from fedcli.run.round import Round
from fedcli.system import available_cores

Group = tuple[str, ...]  # clients that one process trains, one after another


class Capacity:
    """The number of clients that train at a time, and the threads of each.

    ``jobs`` is the requested number; None for what suits the machine, or for no limit where steps
    run elsewhere, and the engine has a queue. Cores are divided only if no
    number of threads is given: it is then a default of the machine, not an option that would change
    what update is asked for.
    """

    def __init__(self, steps: Steps, jobs: int | None, options: StepOptions) -> None:
        self._steps, self._jobs, self._device = steps, jobs, options.device
        self._threads = options.threads or _threads_of_environment()
        self._fraction = options.execution.get("gpu_memory_fraction")
        self._free_bytes: int | None = None
        self._peak_bytes: int | None = None

    def probe(self, clients: int) -> None:
        """Query the device if its memory may set a limit. Raises ``UsageError``."""
        if not self._steps.is_here:
            return
        if self._jobs is None and clients > 1 and self._device != "cpu":
            found = self._steps.probe(self._device)
            self._device, self._free_bytes = found["device"], found["free_memory_bytes"]

    @property
    def has_to_measure(self) -> bool:
        """Whether a client has to train alone first, to measure its memory."""
        return self._jobs is None and self._free_bytes is not None and self._peak_bytes is None

    def measure(self, round_: Round, client: str) -> None:
        """Read the peak memory of a client that has trained alone."""
        telemetry = None
        with contextlib.suppress(FedcliError):  # the next client may show it
            telemetry = Telemetry.read(round_.telemetry(client))
        # it may have trained earlier on another device
        if telemetry is not None and (telemetry.device or "").startswith(self._device):
            self._peak_bytes = telemetry.peak_memory_bytes

    def jobs(self, clients: int) -> int:
        """Return how many of a round's clients train at a time."""
        if self._jobs is not None:
            return self._jobs
        if not self._steps.is_here:
            return sys.maxsize
        if self._device == "cpu":
            return self._by_cores(clients)
        if self._free_bytes is None or self._peak_bytes is None:
            return 1
        capacity = clients if self._fraction is None else math.floor(1 / self._fraction)
        return jobs_by_memory(min(clients, capacity), self._peak_bytes, self._free_bytes)

    def threads(self, clients: int) -> int | None:
        """Return the threads of each client; None if set elsewhere or one client has all cores."""
        at_a_time = min(self._jobs or self._by_cores(clients), clients)
        if not self._steps.is_here or self._threads or at_a_time == 1:
            return None
        return threads_each(at_a_time, available_cores())

    def by_cores(self, clients: int) -> int:
        """Return how many light steps run at a time, one for each of so many clients."""
        if self._steps.is_here:
            return self._jobs or self._by_cores(clients)
        return self._jobs or sys.maxsize

    def _by_cores(self, clients: int) -> int:
        return jobs_by_cores(clients, max(1, available_cores() // (self._threads or 1)))


def _threads_of_environment() -> int | None:
    if "OMP_NUM_THREADS" not in os.environ:
        return None
    first = os.environ["OMP_NUM_THREADS"].split(",")[0]  # further numbers are for nested regions
    return int(first) if first.isdecimal() and int(first) else 1


@dataclass(frozen=True)
class ClientScheduler:
    """Trains the clients of any round of a run, each in its own process, or several small ones.

    ``progress`` gets a line for each client that has trained with ``say_clients``.
    """

    run: Run
    steps: Steps
    capacity: Capacity
    options: StepOptions
    progress: Progress
    say_clients: bool = True

    def train(self, number: int, clients: Sequence[str]) -> int:
        """Train the clients of a round and return how many delivered.

        Raises the error of the first failed client, which it names, and stops the others; with
        ``min_clients`` only if fewer than that many deliver.
        """
        # The largest clients first, so that the last ones are short.
        waiting = sorted(clients, key=self._size, reverse=True)
        failures: list[FedcliError] = []
        threads = self.capacity.threads(len(clients))
        if self.capacity.has_to_measure:
            alone = waiting.pop(0)
            failures += self._side_by_side(number, [alone], 1, threads)
            self.capacity.measure(self.run.round(number), alone)
        jobs = self.capacity.jobs(len(clients))
        failures += self._side_by_side(number, waiting, jobs, threads)
        failed = {failure.client for failure in failures}
        delivered = [client for client in clients if client not in failed]
        if len(delivered) < (self.options.min_clients or 0):
            raise failures[0]
        self.steps.see(map(self.run.round(number).update, delivered))
        return len(delivered)

    def _size(self, client: str) -> int:
        return self.run.client_shard(client).stat().st_size

    def _side_by_side(
        self, number: int, clients: Sequence[str], jobs: int, threads: int | None
    ) -> list[FedcliError]:
        failures: list[FedcliError] = []
        again: list[Group] = []

        def submit(group: Group) -> Future[dict[str, Any]]:
            arguments = ["--id", ",".join(group), *self.options.for_training(number)]
            base = self.run.round(number - 1).global_model
            return self.steps.submit("train-client", *arguments, threads=threads, needs=(base,))

        groups = self._groups(clients, jobs)
        try:
            # what the first have not told is asked of single clients
            done = chain(finished(submit, groups, jobs), finished(submit, again, jobs))
            for group, future in done:
                failed = self._failed(future, group)
                untold = self._untold(number, group, failed)
                again += untold
                self._report(future, number, len(group) - len(untold))
                for client, error in failed.items():
                    failures.append(_named(error, self.run, client, number))
                    if self.options.min_clients is None:
                        raise failures[0]
                    self.progress.say(failures[-1].message)
        except BaseException:
            self.steps.stop()
            raise
        return failures

    def _groups(self, clients: Sequence[str], jobs: int) -> list[Group]:
        """Cut clients into groups, each of which one process trains."""
        size = self.options.clients_per_process
        if size is None:
            largest = max(map(self._size, clients), default=0)
            size = group_size(len(clients), jobs, largest)
        return [tuple(clients[at : at + size]) for at in range(0, len(clients), size)]

    def _failed(self, future: Future[dict[str, Any]], group: Group) -> dict[str, FedcliError]:
        """Return the errors of clients that are known to have failed."""
        error = future.exception()
        if not isinstance(error, FedcliError):
            future.result()
            return {}
        if len(group) == 1:
            return {group[0]: error}
        each = error.each if isinstance(error, SeveralFailedError) else (error,)
        return {one.client: one for one in each if one.client in group}

    def _untold(self, number: int, group: Group, failed: Collection[str]) -> list[Group]:
        """Return the clients of a group, each alone, of which its process did not say enough."""
        if len(group) == 1:
            return []
        update = self.run.round(number).update
        return [(c,) for c in group if c not in failed and not update(c).exists()]

    def _report(self, future: Future[dict[str, Any]], number: int, ended: int) -> None:
        """Say how the clients ended that one process has trained."""
        for _ in range(ended):
            self.progress.advance()
        if future.exception() is None and self.say_clients:
            for one in future.result()["clients"]:
                self.progress.say(f"round {number}  client {one['client']}  {_trained(one)}")


def _trained(client: dict[str, Any]) -> str:
    if client["already_done"]:
        return "already trained"
    last = client["epochs"][-1]
    return f"loss {last['loss']:.4f}  accuracy {last['accuracy']:.1%}  {client['seconds']:.1f} s"


def _named(error: FedcliError, run: Run, client: str, number: int) -> FedcliError:
    """Add the client to an error, and a hint how to reproduce it alone."""
    alone = train_command(run, [client], number)
    hint = f"{error.hint}; alone: {alone}" if error.hint else f"alone: {alone}"
    message = f"client {client}, round {number}: {error.message}"
    return error.amended(message=message, hint=hint, client=client)
