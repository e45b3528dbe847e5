"""A report: runs side by side, and what it says of them, as ``fedcli report --json`` prints it.

Units and None are as in ``run_report``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from fedcli.reporting.metric import METRICS, Metric
from fedcli.reporting.run_report import Note, RunReport
from fedcli.reporting.subject import Subject

_FEW = 4  # runs, of which each is described on its own


@dataclass(frozen=True)
class Summary:
    """The row of one run in the main table.

    ``value`` is the metric of the report, and ``best`` its best value, first reached in
    ``best_round``. ``intervals`` are the 95 % intervals of the scores, by name; they are computed
    for a report of one run.

    ``round`` is the last complete round that was evaluated, else the last complete one.
    ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``auc``, ``sensitivity``, ``specificity`` and
    ``loss`` are of that round; ``bytes_total`` is what had been exchanged by then, ``epsilon`` and
    ``epsilon_clients`` what had been spent of the privacy of examples and of clients.
    """

    label: str
    centralised: bool
    round: int | None
    accuracy: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    auc: float | None
    sensitivity: float | None
    specificity: float | None
    loss: float | None
    value: float | None
    best: float | None
    best_round: int | None
    bytes_total: int | None
    epsilon: float | None = None
    epsilon_clients: float | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Attainment:
    """The first evaluated round in which a run reaches the target, and what it took until then.

    ``seconds`` adds up, over these rounds, the slowest client's training, aggregation and
    evaluation. ``round`` and all below it are None if no evaluated round reaches the target;
    ``best`` is None if no round was evaluated.
    """

    label: str
    best: float | None
    round: int | None = None
    value: float | None = None
    bytes_total: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Fairness:
    """The spread of a metric over clients, in one round, as in Li et al. 2020 (q-FFL).

    ``std`` is the standard deviation of the population: these are all clients that were scored.
    ``worst_tenth`` is the mean over the worst 10 % of them, rounded up to whole clients.
    ``without`` clients were scored but do not have the metric.
    """

    label: str
    data: str
    round: int
    clients: int
    mean: float | None
    std: float | None
    worst_tenth: float | None
    worst: float
    worst_client: str
    without: int = 0


@dataclass(frozen=True)
class Spread:
    """The mean of ``n`` runs, and their sample standard deviation (n - 1); None of one run."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Return that of the values that are known; None without any, or if they overflow."""
        known = [float(value) for value in values if value is not None]
        if not known:
            return None
        try:
            return cls(fmean(known), stdev(known) if len(known) > 1 else None, len(known))
        except OverflowError:  # files may claim any loss
            return None

    @property
    def lower(self) -> float | None:
        """One standard deviation below the mean."""
        return None if self.std is None else self.mean - self.std

    @property
    def upper(self) -> float | None:
        """One standard deviation above the mean."""
        return None if self.std is None else self.mean + self.std


@dataclass(frozen=True)
class MethodRound:
    """One round of a method: its scores by metric, and what its runs had exchanged by then.

    ``epsilon`` and ``epsilon_clients`` are what they had spent of the privacy of examples and of
    clients.
    """

    number: int
    scores: dict[str, Spread]
    bytes_total: Spread | None
    epsilon: Spread | None = None
    epsilon_clients: Spread | None = None


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but their seeds, or that were grouped by options.

    ``runs`` are their labels. ``differs`` holds the options in which methods differ. ``final`` and
    ``best`` are the scores of each run's last and best round, by metric. ``last_round`` is that of
    the run with the fewest rounds and of the one with the most.
    """

    label: str
    runs: tuple[str, ...]
    differs: dict[str, Any]
    centralised: bool
    final: dict[str, Spread]
    best: dict[str, Spread]
    last_round: tuple[int, int] | None
    bytes_total: Spread | None
    rounds: tuple[MethodRound, ...]

    @property
    def n(self) -> int:
        """The number of runs."""
        return len(self.runs)


@dataclass(frozen=True)
class Report:
    """Runs side by side, compared by a metric on the subject ``headline``.

    ``metric`` is a name in ``METRICS``. ``chance`` is what a model scores that sees nothing of the
    examples, as a mean over runs; None if they differ in that, or nobody can know.
    ``attainments`` say what each run needed to reach ``target``, if there is one, and ``fairness``
    how evenly the runs whose global model was scored on clients' data serve them.
    """

    headline: Subject | None
    summary: tuple[Summary, ...]
    runs: tuple[RunReport, ...]
    notes: tuple[Note, ...]
    metric: str = "accuracy"
    chance: float | None = None
    target: float | None = None
    attainments: tuple[Attainment, ...] = ()
    fairness: tuple[Fairness, ...] = ()
    methods: tuple[Method, ...] = ()

    @property
    def in_detail(self) -> bool:
        """Whether each run has tables of its own: there are few, and none repeats another."""
        return len(self.runs) <= _FEW and len(self.methods) == len(self.runs)

    @property
    def has_repetitions(self) -> bool:
        """Whether a method has several runs."""
        return any(method.n > 1 for method in self.methods)

    @property
    def judged_by(self) -> Metric:
        """The metric that the runs are compared by."""
        return METRICS[self.metric]
