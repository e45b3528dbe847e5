"""What a job of Slurm runs: one step; and how its end is read."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcli.errors import FedcliError, OutOfMemoryError, StepLostError, error_from_json
from fedcli.execution.engine import Ending, last_line
from fedcli.execution.slurm_queue import JobState
from fedcli.execution.worker import perform

# Without the state for it, what Slurm or its daemons write into the log of the job.
_MEMORY_RAN_OUT = ("exceeded memory limit", "Exceeded job memory limit", "oom-kill", "oom_kill")
_HINTS = {
    "TIMEOUT": "--resources time=… gives it longer; train-client --checkpoint-every resumes",
    "DEADLINE": "--executor-option deadline=… names a later one",
}


def perform_in_job(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run a step as ``perform`` does; return its ending or its error as plain values."""
    # submitit outlives SIGTERM, requeues jobs by itself, and writes a line on SIGCONT, which Slurm
    # sends before SIGTERM: how a job ends is for Slurm to say.
    for number in (signal.SIGTERM, signal.SIGCONT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        return {"ending": perform(request)}
    except FedcliError as error:
        return {"error": error.as_json()}


def read_answer(answer: Mapping[str, Any]) -> Ending:
    """Return the ending in what ``perform_in_job`` returned, or raise the error in it."""
    if "error" in answer:
        raise error_from_json(answer["error"])
    return Ending(*answer["ending"])


def lost(command: str, job: str, state: JobState | None, log: Path) -> FedcliError:
    """Return the error of a step whose job has ended without an answer; ``log`` is its stderr."""
    how = f"has ended as {state.name}" if state else "is no longer known to Slurm"
    where = f" on {state.node}" if state and state.node else ""
    said = log.read_text(errors="replace") if log.exists() else ""
    last = last_line(said.encode())
    message = f"Slurm job {job} ({command}) {how}{where}{f': {last}' if last else ''}"
    name = state.name if state else ""
    if name == "OUT_OF_MEMORY" or any(words in said for words in _MEMORY_RAN_OUT):
        return OutOfMemoryError(message, hint="--resources mem=… gives it more")
    return StepLostError(message, hint=_HINTS.get(name, f"its log: {log}"))
