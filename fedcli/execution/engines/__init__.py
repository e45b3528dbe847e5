"""The engines, one a file: where steps can run, and how one is chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedcli.execution.engine import Engine
from fedcli.execution.engines.dask import DaskEngine
from fedcli.execution.engines.executor import from_factory
from fedcli.execution.engines.local import LocalEngine
from fedcli.execution.engines.slurm import SlurmEngine
from fedcli.execution.local import light_starter, starter_for
from fedcli.execution.place import Place
from fedcli.execution.retrying import Retrying
from fedcli.execution.worker import Setting
from fedcli.options import unknown_value

# By the word before the colon of --executor: from what follows it to an engine.
ENGINES: dict[str, Callable[[str, Place, Setting], Engine]] = {
    "dask": DaskEngine,
    "slurm": SlurmEngine,
}

_KNOWN = ("local", "dask:ADDRESS", "dask:SCHEDULER.json", "slurm", "package.module:factory")


@dataclass(frozen=True)
class Engines:
    """The engine of the steps that a machine is needed for, and ``here``, that of the others."""

    engine: Engine
    here: Engine

    def stop(self) -> None:
        """Stop the steps of both."""
        self.engine.stop()
        self.here.stop()


def engines_at(
    place: Place, run: Path, models: tuple[str, ...], say: Callable[[str], None]
) -> Engines:
    """Return what runs the steps of runs in a folder, with these models.

    ``say`` hears of steps that are submitted again. Raises ``UsageError`` for a place that does not
    exist, or options that it does not have.
    """
    if place.is_here:
        local = LocalEngine(starter_for(*models))
        return Engines(local, local)
    shared = run.absolute()
    there = next(folder for folder in (shared, *shared.parents) if folder.is_dir())
    setting = Setting(Path.cwd(), there, models, place.seconds)
    elsewhere = Retrying(_engine(place, setting), place.retries, say)
    return Engines(elsewhere, LocalEngine(light_starter()))


def _engine(place: Place, setting: Setting) -> Engine:
    kind, is_named, rest = place.executor.partition(":")
    if kind in ENGINES and (rest or kind == place.executor):
        return ENGINES[kind](rest, place, setting)
    if is_named and rest:
        return from_factory(place.executor, place, setting)
    raise unknown_value("--executor", place.executor, _KNOWN)
