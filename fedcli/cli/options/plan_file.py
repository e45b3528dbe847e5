"""The file of ``--plan``, and the typed options, which win over it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcli.errors import UsageError
from fedcli.options import NONE, Given, declared

if TYPE_CHECKING:
    from fedcli.plan import Plan
    from fedcli.plan.secagg import SecaggOptions


@dataclass(frozen=True)
class PlanFile:
    """The options of a file by section and key; without a file there are none."""

    path: Path | None = None
    sections: Mapping[str, Given] = field(default_factory=dict)
    has_sweep: bool = False

    @classmethod
    def read(cls, path: Path | None) -> "PlanFile":
        """Read a file, if there is one. Raises what ``read_experiment`` does."""
        from fedcli.experiment.file import read_experiment

        if path is None:
            return cls()
        found = read_experiment(path)
        return cls(path, found.settings, bool(found.sweep))

    def of(self, section: str) -> Given:
        """Return the options of a section by the names of their declarations."""
        from fedcli.experiment.sections import by_name

        return by_name(section, self.sections.get(section, NONE))

    def build(self, *parts: Callable[["PlanFile"], Any]) -> list[Any]:
        """Build what a command needs of the file and of typed options.

        Raises ``UsageError`` that names the file and all its faults, unless what is typed is wrong
        by itself.
        """
        built, faults = [], []
        for part in parts:
            try:
                built.append(part(self))
            except UsageError as fault:
                faults.append(fault)
                if self.path is None:
                    raise
                _raise_if_typed(part, fault)
        if self.path is not None:
            from fedcli.experiment.values import raise_together

            raise_together(self.path, faults)
        return built

    def data(self, typed: Given) -> Given:
        """Return the options of data. Another data set has none of the file's own ones."""
        from fedcli.plan.sections import over_file
        from fedcli.setup.data_source import DataSource, data_options

        own = data_options().keys() - declared(DataSource).keys()
        return over_file(self.of("data"), typed, owned={"spec": own})

    def cutting(self, typed: Given) -> Given:
        """Return the options of cutting. Another scheme starts from its own defaults."""
        from fedcli.partitioning.schemes import Scheme, scheme_for, scheme_options
        from fedcli.plan.sections import over_file

        file, general = dict(self.of("partition")), declared(Scheme.__init__).keys()
        if "name" in typed and "name" not in file:
            file["name"] = scheme_for(file.keys() - general)
        own = scheme_options().keys() - general
        return over_file(file, typed, owned={"name": own})

    def model(self, typed: Given) -> Given:
        """Return the options of the model."""
        from fedcli.plan.sections import over_file

        return over_file(self.of("model"), typed, [("init_from", "pretrained")])

    def masking(self, typed: Given) -> "SecaggOptions":
        """Return how updates of a new run are masked. Raises ``UsageError``."""
        from fedcli.plan.secagg import SecaggOptions

        return SecaggOptions(**{**self.of("secagg"), **typed})

    def seed(self, typed: Given) -> int:
        """Return the seed of a new run."""
        from fedcli.experiment.sections import RunSeed

        return RunSeed(**self._run(RunSeed, typed)).seed

    def section(self, cls: type[Any], typed: Given) -> Any:
        """Build a section of ``[run]``. Raises ``UsageError``."""
        return cls(**self._run(cls, typed))

    def _run(self, cls: type[Any], typed: Given) -> dict[str, Any]:
        known = declared(cls)
        return {key: one for key, one in {**self.of("run"), **typed}.items() if key in known}

    def plan(self, training: Given, aggregation: Given) -> "Plan":
        """Build a run's plan: the built-in one, then the file's, then what options say.

        Raises ``UsageError``, also for a rule of aggregation that does not exist.
        """
        from fedcli.cli.options.building import plan_from

        file = {section: self.of(section) for section in ("train", "aggregate")}
        typed = {**self._own_rule(aggregation), **aggregation}
        return plan_from(file, str(self.path), training, typed)

    def _own_rule(self, typed: Given) -> Given:
        """Return a user's own reducer that the file names, which counts as typed."""
        reduce = self.of("aggregate").get("reduce")
        if reduce is None or ":" not in reduce or "strategy" in typed:
            return NONE
        return {"reduce": reduce}

    @property
    def own_model(self) -> str | None:
        """A user's own network that the file names, which counts as typed."""
        name = self.of("model").get("name")
        return name if name is not None and ":" in name else None

    def unused(self, sections: Collection[str], why: str) -> list[str]:
        """Say which sections of the file are not used, and that ``[sweep]`` is not."""
        lines = []
        if named := [f"[{name}]" for name in sections if self.of(name)]:
            lines.append(f"{self.path}: {', '.join(named)} not used: {why}")
        if self.has_sweep:
            lines.append(f"{self.path}: [sweep] not used: fedcli sweep {self.path} runs its cases")
        return lines


def _raise_if_typed(part: Callable[[PlanFile], Any], fault: UsageError) -> None:
    """Raise the fault if it is there without a file too."""
    try:
        part(PlanFile())
    except UsageError as same:
        if same.message == fault.message:
            raise
