"""What Slurm says of the jobs of one call, through its commands; never ``sacct``.

Many clusters keep no accounts of jobs. ``squeue`` knows a job for a while after its end
(``MinJobAge``, five minutes by default).
"""

import getpass
import shutil
import subprocess
import time
from dataclasses import dataclass

from fedcli.errors import NotReadyError

_PATIENCE = 60.0  # seconds for one of Slurm's commands, or for cancelled jobs to end
_INTERVAL = 0.2  # seconds between two looks at jobs that end
_ACTIVE = {
    *("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING"),
    *("STAGE_OUT", "STOPPED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"),
}


@dataclass(frozen=True)
class JobState:
    """The state of a job, such as ``RUNNING`` or ``TIMEOUT``, and its node."""

    name: str
    node: str = ""

    @property
    def is_active(self) -> bool:
        """Whether the job may still end well."""
        return self.name in _ACTIVE


class SlurmQueue:
    """The jobs of this user that have a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._mine = (f"--user={getpass.getuser()}", f"--name={name}")

    def largest_array(self) -> int:
        """Return how many tasks an array may have. Raises ``NotReadyError`` if Slurm is not there.

        The ids of tasks are below ``MaxArraySize``.
        """
        if shutil.which("sbatch") is None:
            raise NotReadyError(
                "--executor slurm: there is no sbatch",
                hint="type this on a node from which jobs are submitted",
            )
        done = _run("scontrol", "show", "config")
        if done.returncode:
            raise NotReadyError(
                f"--executor slurm: Slurm does not answer: {complaint(done.stderr)}"
            )
        return max(1, int(_setting(done.stdout, "MaxArraySize", "1")))

    def states(self) -> dict[str, JobState] | None:
        """Return the state of each job that Slurm remembers, by its id; None without an answer."""
        done = _run(
            "squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%N", *self._mine
        )
        if done.returncode:
            return None
        rows = [line.split("|") for line in done.stdout.splitlines()]
        return {job: JobState(state, node) for job, state, node in rows}

    def cancel_waiting(self) -> None:
        """Cancel jobs that do not run, such as one of a node that was given up, yet delivered."""
        _run("scancel", "--state=PENDING", *self._mine)

    def cancel(self) -> None:
        """Cancel every job, and wait until none runs."""
        deadline = time.monotonic() + _PATIENCE
        _run("scancel", *self._mine)
        while (states := self.states()) is None or any(one.is_active for one in states.values()):
            if time.monotonic() > deadline:
                return
            time.sleep(_INTERVAL)


def usual_time(partition: str | None) -> str:
    """Return the limit of time of a job that asks for none, as ``sbatch --time`` takes it."""
    which = [f"--partition={partition}"] if partition else []
    done = _run("sinfo", "--noheader", "--format=%P|%L|%l", *which)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    default = [row for row in rows if row[0].endswith("*")] or rows
    limits = [limit for limit in (default[0][1:] if default else ()) if limit != "n/a"]
    return limits[0] if limits and limits[0] != "infinite" else "UNLIMITED"


def complaint(said: str) -> str:
    """Return the first error that one of Slurm's commands names, without the command's name."""
    lines = [line.strip() for line in said.splitlines()]
    first = next((line for line in lines if "error:" in line), lines[0] if lines else "")
    return first.rpartition("error: ")[2].removeprefix("sbatch: ") or "it said nothing"


def _setting(configuration: str, name: str, default: str) -> str:
    for line in configuration.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == name:
            return value.strip()
    return default


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer within {_PATIENCE:.0f} s")
