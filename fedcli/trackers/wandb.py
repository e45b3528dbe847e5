"""Weights & Biases, offline: a folder for each run, to be uploaded by ``wandb sync`` if at all.

The library writes through a process of its own, which ends with ``close``. Nothing about the
machine, the code or the environment is written, and nothing is sent.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fedcli.errors import StorageError
from fedcli.storage.atomic import read_json, storage_errors, temporary_directory, write_json
from fedcli.text import printable
from fedcli.trackers.history import History
from fedcli.trackers.tracker import require

PROJECT = "fedcli"  # unless WANDB_PROJECT says otherwise
_MARK = "fedcli.json"  # in the folder of a run, once it is complete
_SETTINGS = {
    "mode": "offline",
    "silent": True,
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "host": "",
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


class WandbOffline:
    """A directory of runs that wandb has not sent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ends_process = False

    def open(self) -> None:
        """Import wandb. Raises ``MissingDependencyError``, and ``StorageError``."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would be sent
        require("--wandb-offline", "wandb", "wandb")
        import wandb

        with temporary_directory(self.directory, "wandb"):
            pass  # where wandb cannot write, it goes on in another directory
        self._ends_process = wandb.run is None

    def place(self, history: History) -> str:
        """Return the folder that is to be given to ``wandb sync``."""
        folders = self._folders(history)
        return str(folders[-1] if folders else self.directory)

    def has(self, history: History) -> bool:
        """Return whether there is one folder of the run, and it is complete with this content."""
        return [_content(folder) for folder in self._folders(history)] == [history.content]

    def put(self, history: History) -> bool:
        """Remove earlier folders of the run, and write another one."""
        earlier = self._folders(history)
        with storage_errors("remove", self.directory):
            for folder in earlier:
                shutil.rmtree(folder)
        with self._errors():
            folder = self._write(history)
        write_json(folder / _MARK, {"run": history.run, "content": history.content})
        return bool(earlier)

    def close(self) -> None:
        """End the process that writes, unless the caller has a run of its own in it."""
        if self._ends_process:
            import wandb

            wandb.teardown()

    def _folders(self, history: History) -> list[Path]:
        with storage_errors("read", self.directory):
            return sorted((self.directory / "wandb").glob(f"offline-run-*-{history.key}"))

    def _write(self, history: History) -> Path:
        import wandb

        known = wandb.Settings.model_fields  # those with x_ may come and go
        run = wandb.init(
            dir=self.directory,
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=history.name,
            id=history.key,
            config=history.settings,
            reinit="create_new",
            settings=wandb.Settings(**{k: v for k, v in _SETTINGS.items() if k in known}),
        )
        for one in history.rounds:
            run.log({"seconds": one.seconds, **one.values}, step=one.number)
        run.finish()
        return Path(run.dir).parent

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Say in one line what wandb complains about."""
        import wandb

        try:
            yield
        except (wandb.Error, OSError) as error:
            reason = printable((str(error).strip() or type(error).__name__).splitlines()[0], 300)
            raise StorageError(f"wandb cannot write it: {reason}", path=self.directory) from error


def _content(folder: Path) -> object:
    """Return the content that a folder is complete with, None if it is not."""
    try:
        return read_json(folder / _MARK).get("content")
    except (FileNotFoundError, ValueError):
        return None
