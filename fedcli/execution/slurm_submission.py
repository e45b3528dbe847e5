"""Steps handed to Slurm as job arrays, through submitit, which carries them in files."""

import contextlib
import io
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedcli.errors import MissingDependencyError, StepLostError
from fedcli.execution.local import interpreter
from fedcli.execution.resources import Resources
from fedcli.execution.slurm_job import perform_in_job
from fedcli.execution.slurm_queue import usual_time

_ANSWER = "_0_result.pkl"  # how submitit names the file that ends a job
# Options of submitit; all others are those of sbatch.
_OF_SUBMITIT = ("array_parallelism", "setup")


class SlurmSubmitter:
    """Submits steps of one call, whose files are in ``folder``, under one job name.

    submitit reads and writes pickles, which run code: nobody else may write into the folder.
    """

    def __init__(
        self, folder: Path, name: str, needs: Resources, options: Mapping[str, Any], largest: int
    ) -> None:
        """``largest`` is how many steps one array may have. Raises ``MissingDependencyError``."""
        self._largest, self._folder = largest, folder
        submitit = _submitit()
        folder.mkdir(mode=0o700, parents=True)
        *python, _ = interpreter()
        self._executor = submitit.SlurmExecutor(folder, python=shlex.join(python))
        parallel = options.get("array_parallelism", largest)
        setup = [str(options["setup"])] if "setup" in options else None
        self._executor.update_parameters(
            array_parallelism=parallel,
            setup=setup,
            use_srun=False,
            wckey=None,
            additional_parameters={"job_name": name, **sbatch_options(needs, options)},
        )

    def arrays(self, steps: Sequence[Any]) -> list[Sequence[Any]]:
        """Return steps in groups of which each fits into one array."""
        return [steps[i : i + self._largest] for i in range(0, len(steps), self._largest)]

    def submit(self, requests: Sequence[Mapping[str, Any]]) -> list[str]:
        """Submit one array, whose tasks each run a step; return their ids."""
        with contextlib.redirect_stderr(io.StringIO()):  # the error has what submitit prints there
            jobs = self._executor.map_array(perform_in_job, requests)
        return [str(job.job_id) for job in jobs]

    def answered(self) -> set[str]:
        """Return the ids of the jobs that have left an answer; listing makes NFS ask the server."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError:
            return set()
        return {name.removesuffix(_ANSWER) for name in names if name.endswith(_ANSWER)}

    def answer(self, job: str) -> dict[str, Any]:
        """Return what ``perform_in_job`` returned. Raises ``StepLostError`` if it did not."""
        submitit = _submitit()
        try:
            found: dict[str, Any] = submitit.SlurmJob(self._folder, job).result()
        except Exception as error:
            raise StepLostError(f"Slurm job {job}: {_last_of_traceback(error)}") from error
        return found

    def log(self, job: str) -> Path:
        """Return the file with what a job wrote to its standard error."""
        return self._folder / f"{job}_0_log.err"

    def forget(self, job: str) -> None:
        """Remove the files of a job."""
        for path in self._folder.glob(f"{job}_*"):
            path.unlink(missing_ok=True)

    def close(self, kept: Sequence[str]) -> None:
        """Remove all files but the logs of some jobs, and the folders that are then empty."""
        logs = {self.log(job) for job in kept}
        if not any(log.exists() for log in logs):
            shutil.rmtree(self._folder, ignore_errors=True)
            _remove_if_empty(self._folder.parent)
            return
        for path in self._folder.iterdir():
            if path not in logs:
                path.unlink(missing_ok=True)


def sbatch_options(needs: Resources, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of ``sbatch`` for what each step needs; those that were typed win."""
    typed = {key: value for key, value in options.items() if key not in _OF_SUBMITIT}
    partition = options.get("partition")
    found: dict[str, Any] = {
        # submitit's own default is five minutes
        "time": _minutes(needs.time) if needs.time else usual_time(partition),
        "mem": needs.mem and f"{-(-needs.mem // 2**20)}M",
        "cpus_per_task": needs.cpus,
        "gres": needs.gpu and f"gpu:{needs.gpu}",
    }
    given = {key: value for key, value in found.items() if value is not None}
    return {key: value for key, value in {**given, **typed}.items() if value is not False}


def _minutes(seconds: int) -> int:
    return -(-seconds // 60)


def _last_of_traceback(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("---", "You can check", "- /"))]
    return told[-1] if told else type(error).__name__


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise MissingDependencyError(
            "--executor slurm needs the package submitit", hint="pip install 'fedcli[slurm]'"
        ) from None
    return submitit
