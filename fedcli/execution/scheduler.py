"""Train the clients of a round side by side, as many at a time as the machine has room for."""

import contextlib
import math
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from fedcli.cores import available_cores
from fedcli.errors import FedcliError
from fedcli.execution.jobs import jobs_by_cores, jobs_by_memory, threads_each
from fedcli.execution.local import Steps
from fedcli.execution.step_arguments import StepOptions
from fedcli.formats.telemetry import Telemetry
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.next_command import train_command
from fedcli.run.round import Round


class Capacity:
    """How many clients train at a time, and with how many threads each.

    ``jobs`` is what was asked for; None is what suits the machine. Threads are shared out only
    where nobody says how many: that is a default of the machine, not a choice that would
    make an update another one.
    """

    def __init__(self, steps: Steps, jobs: int | None, options: StepOptions) -> None:
        self._steps, self._jobs, self._device = steps, jobs, options.device
        self._threads = options.threads or _threads_of_environment()
        self._fraction = options.execution.get("gpu_memory_fraction")
        self._free_bytes: int | None = None
        self._peak_bytes: int | None = None

    def look(self, clients: int) -> None:
        """Look at the device, where its memory may set a limit. Raises ``UsageError``."""
        if self._jobs is None and clients > 1 and self._device != "cpu":
            found = self._steps.probe(self._device)
            self._device, self._free_bytes = found["device"], found["free_memory_bytes"]

    @property
    def has_to_measure(self) -> bool:
        """Whether a client has to train alone first, to show what memory it takes."""
        return self._jobs is None and self._free_bytes is not None and self._peak_bytes is None

    def measure(self, round_: Round, client: str) -> None:
        """Read what memory a client took that has trained alone."""
        told = None
        with contextlib.suppress(FedcliError):  # then the next one shows
            told = Telemetry.read(round_.telemetry(client))
        # it may have trained before, elsewhere
        if told is not None and (told.device or "").startswith(self._device):
            self._peak_bytes = told.peak_memory_bytes

    def jobs(self, clients: int) -> int:
        """Return how many of a round's clients train at a time."""
        if self._jobs is not None:
            return self._jobs
        if self._device == "cpu":
            return self._by_cores(clients)
        if self._free_bytes is None or self._peak_bytes is None:
            return 1
        capacity = clients if self._fraction is None else math.floor(1 / self._fraction)
        return jobs_by_memory(min(clients, capacity), self._peak_bytes, self._free_bytes)

    def threads(self, clients: int) -> int | None:
        """Return the threads of each, None where that is said elsewhere or all are one's own."""
        at_a_time = min(self._jobs or self._by_cores(clients), clients)
        if self._threads or at_a_time == 1:
            return None
        return threads_each(at_a_time, available_cores())

    def _by_cores(self, clients: int) -> int:
        return jobs_by_cores(clients, max(1, available_cores() // (self._threads or 1)))


def _threads_of_environment() -> int | None:
    if "OMP_NUM_THREADS" not in os.environ:
        return None
    first = os.environ["OMP_NUM_THREADS"].split(",")[0]  # the others are for nested regions
    return int(first) if first.isdecimal() and int(first) else 1


@dataclass(frozen=True)
class ClientScheduler:
    """Train the clients of any round of a run, each in a process of its own."""

    run: Run
    steps: Steps
    capacity: Capacity
    options: StepOptions
    progress: Progress

    def train(self, number: int, clients: Sequence[str]) -> int:
        """Train the clients of a round and return how many delivered.

        Raises what the first client that failed reports, naming it; with ``min_clients`` only
        where fewer than that many are left. The others are then stopped.
        """
        # The largest first: what is left over at the end is then small.
        waiting = sorted(clients, key=self._size, reverse=True)
        failures: list[FedcliError] = []
        threads = self.capacity.threads(len(clients))
        if self.capacity.has_to_measure:
            alone = waiting.pop(0)
            failures += self._side_by_side(number, [alone], 1, threads)
            self.capacity.measure(self.run.round(number), alone)
        jobs = self.capacity.jobs(len(clients))
        failures += self._side_by_side(number, waiting, jobs, threads)
        delivered = len(clients) - len(failures)
        if delivered < (self.options.min_clients or 0):
            raise failures[0]
        return delivered

    def _size(self, client: str) -> int:
        return self.run.client_shard(client).stat().st_size

    def _side_by_side(
        self, number: int, clients: Sequence[str], jobs: int, threads: int | None
    ) -> list[FedcliError]:
        arguments = self.options.for_training(number)
        failures: list[FedcliError] = []
        with ThreadPoolExecutor(jobs) as pool:
            pending = {
                pool.submit(
                    self.steps.launch, "train-client", "--id", client, *arguments, threads=threads
                ): client
                for client in clients
            }
            try:
                for future in as_completed(pending):
                    error = self._report(future, pending[future], number)
                    if error is not None:
                        failures.append(_named(error, self.run, pending[future], number))
                        if self.options.min_clients is None:
                            raise failures[0]
                        self.progress.say(failures[-1].message)
            except BaseException:
                self.steps.stop()  # before the pool waits for its threads, and they for processes
                raise
        return failures

    def _report(
        self, future: Future[dict[str, Any]], client: str, number: int
    ) -> FedcliError | None:
        """Say how a client did; return the error that it ended with."""
        self.progress.advance()
        error = future.exception()
        if isinstance(error, FedcliError):
            return error
        (trained,) = future.result()["clients"]
        if trained["already_done"]:
            self.progress.say(f"round {number}  client {client}  already trained")
        else:
            last = trained["epochs"][-1]
            self.progress.say(
                f"round {number}  client {client}  loss {last['loss']:.4f}"
                f"  accuracy {last['accuracy']:.1%}  {trained['seconds']:.1f} s"
            )
        return None


def _named(error: FedcliError, run: Run, client: str, number: int) -> FedcliError:
    """Say which client it was, and how to see the failure alone."""
    alone = train_command(run, [client], number)
    hint = f"{error.hint}; alone: {alone}" if error.hint else f"alone: {alone}"
    message = f"client {client}, round {number}: {error.message}"
    return error.amended(message=message, hint=hint, client=client)
