"""A sweep: its cases, where their runs are, and the commands that make and continue them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcli.errors import UsageError
from fedcli.execution.place import Place
from fedcli.experiment.cases import NOTHING_TYPED, Case, Sections, Typed, expand
from fedcli.experiment.file import Experiment, read_experiment
from fedcli.experiment.lines import shell_line, words_of
from fedcli.experiment.sections import SECTIONS
from fedcli.options import NONE, Declared, Given, declared
from fedcli.plan.sections import option_words

_MADE = ("data", "partition", "model", "train", "aggregate", "secagg")  # what partition is told
_CUT = ("data", "partition")
_UNNAMED = "sweep"  # the folder of the runs without a file
_OF_ALL = ("jobs", "state", *declared(Place))  # of [run], and not of single runs


def run_options() -> dict[str, Declared]:
    """Return the options of ``[run]`` that each run of a sweep can have."""
    return {key: one for key, one in SECTIONS["run"]().items() if key not in _OF_ALL}


def sweep_sections() -> dict[str, Mapping[str, Declared]]:
    """Return the options that each run of a sweep can have, by section and key."""
    return {**{name: options() for name, options in SECTIONS.items()}, "run": run_options()}


@dataclass(frozen=True)
class Sweep:
    """The cases of a sweep, and the folder ``out`` of their runs, each named after its case.

    ``jobs`` says how many clients of all runs train at a time; None: as many as suit the machine.
    Secret noise comes from ``noise_key``, where a case has any. ``place`` says where clients train.
    """

    cases: tuple[Case, ...]
    sections: Sections
    out: Path
    jobs: int | None = None
    noise_key: Path | None = None
    place: Place = field(default_factory=Place)

    def root(self, case: Case) -> Path:
        """Return the directory of a run."""
        return self.out / case.name

    def rounds(self, case: Case) -> int:
        """Return how many rounds a run is to have."""
        rounds: int = case.settings["run"]["rounds"]
        return rounds

    def of_run(self, case: Case, section: type[Any]) -> dict[str, Any]:
        """Return the options of ``[run]`` that a section of the plan declares."""
        return {k: v for k, v in case.settings["run"].items() if k in declared(section)}

    def values(self, section: str, key: str) -> list[Any]:
        """Return the different values of a key, None where it is not given."""
        return list(dict.fromkeys(case.settings.get(section, {}).get(key) for case in self.cases))

    def groups(self) -> list[tuple[Case, ...]]:
        """Return the cases that have the same clients and examples, together."""
        groups: dict[str, list[Case]] = {}
        for case in self.cases:
            groups.setdefault(self._data_of(case), []).append(case)
        return [tuple(group) for group in groups.values()]

    def _data_of(self, case: Case) -> str:
        seed = case.settings["run"].get("seed", 0)
        cut = [{f"{name}_seed": seed, **case.settings.get(name, {})} for name in _CUT]
        return json.dumps(cut, sort_keys=True, default=str)

    def partition_words(self, case: Case, source: Path | None = None) -> list[str]:
        """Return the words after ``fedcli partition --run DIR``.

        ``source`` is a run with the same clients and examples, which are taken from there.
        """
        words = [] if source is None else ["--data-of", str(source)]
        for section in _MADE:
            if source is None or section not in _CUT:
                words += self._words(section, case.settings.get(section, {}))
        run = case.settings["run"]
        words += self._words("run", {key: run[key] for key in ("seed",) if key in run})
        return words + option_words({"noise_key": self.central_noise_key(case)})

    def training_noise_key(self, case: Case) -> Path | None:
        """Return the key that private training of a case draws from; None without any."""
        return self.noise_key if case.settings.get("train", {}).get("dp") else None

    def central_noise_key(self, case: Case) -> Path | None:
        """Return the key of the noise on sums of updates of a case; None without any."""
        noisy = case.settings.get("aggregate", {}).get("update_noise")
        masked = case.settings.get("secagg", {}).get("secagg")
        return self.noise_key if noisy and not masked else None

    def run_words(self, case: Case) -> list[str]:
        """Return the words after ``fedcli run --run DIR``."""
        given = {k: v for k, v in case.settings["run"].items() if k != "seed"}
        words = self._words("run", given)
        key = self.training_noise_key(case) or self.central_noise_key(case)
        own = {"model": own_model(case), "reduce": own_reducer(case), "noise_key": key}
        return words + option_words(own)

    def _words(self, section: str, values: Mapping[str, Any]) -> list[str]:
        known = self.sections[section]
        return [word for key, value in values.items() for word in words_of(known[key], value)]

    def commands(self) -> list[str]:
        """Return the two commands of each case, in order, as the sweep executes them."""
        first = {case.name: group[0] for group in self.groups() for case in group}
        return [
            line
            for case in self.cases
            for line in self._commands(case, None if first[case.name] is case else first[case.name])
        ]

    def array(self, jobs: int | None) -> list[str]:
        """Return one line of a shell per case, which needs no other one.

        Nothing is shared among the cases: each line says where its clients train, and how many
        ``jobs`` of them at a time.
        """
        alone = [*option_words({"jobs": jobs}), *self._place_words()]
        return [" && ".join(self._commands(case, None, alone)) for case in self.cases]

    def _commands(
        self, case: Case, source: Case | None, alone: Sequence[str] = ()
    ) -> tuple[str, str]:
        root = self.root(case)
        made = self.partition_words(case, None if source is None else self.root(source))
        words = [*self.run_words(case), *alone]
        return shell_line("partition", root, made), shell_line("run", root, words)

    def _place_words(self) -> list[str]:
        given = [(one, getattr(self.place, name)) for name, one in declared(Place).items()]
        return [w for one, value in given if value != one.default for w in words_of(one, value)]


def own_model(case: Case) -> str | None:
    """Return a user's own network, which the sweep names, or None."""
    return _own(case, "model", "model")


def own_reducer(case: Case) -> str | None:
    """Return a user's own rule, which the sweep names, or None."""
    return _own(case, "aggregate", "reduce")


def _own(case: Case, section: str, key: str) -> str | None:
    name = case.settings.get(section, {}).get(key)
    return name if name is not None and ":" in name else None


def read_sweep(
    file: Path | None,
    out: Path | None = None,
    typed: Typed = NOTHING_TYPED,
    noise_key: Path | None = None,
    place: Given = NONE,
) -> Sweep:
    """Return the sweep that a TOML file and typed options ask for, in the folder ``out``.

    Typed options, also those of ``place``, override the file. By default the folder has the name of
    the file, or is ``sweep``. Raises ``UsageError``, ``NotReadyError`` and ``StorageError``.
    """
    experiment = Experiment({}, {}) if file is None else read_experiment(file)
    settings = {"run": {}, **{name: dict(table) for name, table in experiment.settings.items()}}
    jobs = settings["run"].pop("jobs", None)
    of_file = {key: settings["run"].pop(key) for key in declared(Place) if key in settings["run"]}
    if "state" in settings["run"]:
        raise UsageError(f"{file}: [run] state: each run of a sweep keeps its states in itself")
    origin, folder = ("the command line", _UNNAMED) if file is None else (str(file), file.stem)
    sections = sweep_sections()
    cases = expand(settings, experiment.sweep, sections, origin, typed)
    if any("rounds" not in case.settings["run"] for case in cases):
        raise UsageError(
            "--rounds: say how many rounds the runs are to have",
            hint="rounds = 10 in [run] of the file, or --rounds 10",
        )
    key = None if noise_key is None else noise_key.resolve()
    return Sweep(cases, sections, out or Path(folder), jobs, key, Place(**{**of_file, **place}))
