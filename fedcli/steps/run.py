"""Do many rounds by launching the other steps, each as a process of its own."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from fedcli.errors import ClientFailedError, FedcliError, UsageError, error_from_json
from fedcli.progress import Progress, Silence
from fedcli.run import Run

_GRACE = 10.0  # seconds that a child gets to end by itself before it is killed


@dataclass(frozen=True)
class RoundSummary:
    """One round that was done; loss and accuracy are None without evaluation."""

    round: int
    clients: int
    loss: float | None
    accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """What ``run_rounds`` did; ``rounds`` is empty when all of them were there already."""

    rounds_complete: int
    rounds: tuple[RoundSummary, ...]


@dataclass
class _Steps:
    """The processes of one call: started here, and stopped here when something goes wrong."""

    run: Run
    running: set[subprocess.Popen[str]] = field(default_factory=set)
    stopping: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def launch(self, command: str, *arguments: str) -> dict[str, Any]:
        """Run ``fedcli COMMAND`` and return its JSON object.

        Raises the ``FedcliError`` that the process reports, with the same exit status.
        """
        line = [sys.executable, "-m", "fedcli", command, "--run", str(self.run.root)]
        with self.lock:
            if self.stopping:
                raise ClientFailedError("stopped")
            process = subprocess.Popen(
                [*line, *arguments, "--json", "--quiet"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                text=True,
                # Ctrl-C in a terminal reaches this process only, which then stops its children.
                start_new_session=True,
            )
            self.running.add(process)
        try:
            out, err = process.communicate()
        finally:
            with self.lock:
                self.running.discard(process)
        try:
            value = json.loads(out)
        except ValueError:
            last = err.strip().splitlines()[-1:] or ["it printed nothing"]
            raise ClientFailedError(
                f"{command} ended with status {process.returncode}: {last[0]}"
            ) from None
        if process.returncode:
            raise error_from_json(value["error"])
        assert isinstance(value, dict)
        return value

    def stop(self) -> None:
        """End all children and start no more; what they had published stays."""
        with self.lock:
            self.stopping = True
            children = list(self.running)
        for process in children:
            process.terminate()
        deadline = time.monotonic() + _GRACE
        for process in children:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def run_rounds(
    run: Run,
    rounds: int,
    *,
    jobs: int = 1,
    training: Mapping[str, Any] | None = None,
    weighting: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    seed: int | None = None,
    own_model: str | None = None,
    evaluate: bool = True,
    progress: Progress | None = None,
) -> RunResult:
    """Go on until ``rounds`` rounds are complete, from where the directory stands.

    Each round trains every client of the run, ``jobs`` at a time, aggregates, and evaluates. With
    several at a time and no ``threads``, each client gets its share of the cores. ``training``
    holds hyper-parameters by their names in ``TrainPlan``.

    Raises ``UsageError``, and what a step reports: ``ClientFailedError`` names the client. An
    interrupt stops the children; the next call goes on from there.
    """
    progress = progress or Silence()
    if not run.info.clients:
        raise UsageError(
            "this run was made without a list of clients: train each where its data is"
        )
    if jobs > 1 and threads is None:
        threads = max(1, (os.cpu_count() or 1) // jobs)
    shared = _arguments({"device": device, "threads": threads, "model": own_model})
    first = run.open_round().number
    steps = _Steps(run)
    done = []
    progress.start("rounds", max(0, rounds - first + 1) * (len(run.info.clients) + 1))
    try:
        for number in range(first, rounds + 1):
            started = time.monotonic()
            train = [*_arguments({**(training or {}), "seed": seed}), *shared]
            _train_clients(steps, number, jobs, train, progress)
            steps.launch("aggregate", "--round", str(number), *_arguments({"weighting": weighting}))
            scores = _evaluate(steps, number, shared) if evaluate else {}
            summary = RoundSummary(
                number,
                len(run.info.clients),
                scores.get("loss"),
                scores.get("accuracy"),
                time.monotonic() - started,
            )
            done.append(summary)
            progress.advance()
            progress.say(_line(summary, rounds))
    except BaseException:
        steps.stop()
        raise
    return RunResult(run.latest_round().number, tuple(done))


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """Write options as a command line; those that are None are left to the plan."""
    line = []
    for name, value in options.items():
        if value is not None:
            text = ",".join(value) or "none" if isinstance(value, tuple) else str(value)
            line += [f"--{name.replace('_', '-')}", text]
    return line


def _train_clients(
    steps: _Steps, number: int, jobs: int, arguments: Sequence[str], progress: Progress
) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        pending = {
            pool.submit(
                steps.launch,
                "train-client",
                *("--id", client, "--round", str(number)),
                *arguments,
            ): client
            for client in steps.run.info.clients
        }
        try:
            for future in as_completed(pending):
                _report_client(number, pending[future], future.result(), progress)
        except BaseException as error:
            # Before the pool waits for its threads, which wait for the children.
            steps.stop()
            failed = next((c for f, c in pending.items() if f.done() and _failed(f, error)), None)
            if failed is not None and isinstance(error, FedcliError):
                raise _named(error, failed, number) from error
            raise


def _failed(future: Any, error: BaseException) -> bool:
    return future.exception() is error


def _named(error: FedcliError, client: str, number: int) -> FedcliError:
    """Say which client it was, and how to see the failure alone."""
    return type(error)(
        f"client {client}, round {number}: {error.message}",
        hint=error.hint or f"fedcli train-client --id {client} --round {number}",
    )


def _report_client(number: int, client: str, result: dict[str, Any], progress: Progress) -> None:
    progress.advance()
    (trained,) = result["clients"]
    if trained["already_done"]:
        progress.say(f"round {number}  client {client}  already trained")
        return
    last = trained["epochs"][-1]
    progress.say(
        f"round {number}  client {client}  loss {last['loss']:.4f}"
        f"  accuracy {last['accuracy']:.1%}  {trained['seconds']:.1f} s"
    )


def _evaluate(steps: _Steps, number: int, shared: Sequence[str]) -> dict[str, Any]:
    if not steps.run.test_shard.exists():
        return {}
    result = steps.launch("evaluate", "--round", str(number), *shared)
    (scores,) = result["evaluations"]
    assert isinstance(scores, dict)
    return scores


def _line(summary: RoundSummary, rounds: int) -> str:
    line = f"round {summary.round}/{rounds} complete"
    if summary.accuracy is not None:
        line += f"  test loss {summary.loss:.4f}  accuracy {summary.accuracy:.1%}"
    return f"{line}  {summary.seconds:.1f} s"
