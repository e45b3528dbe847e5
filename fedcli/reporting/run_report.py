"""What a report holds of one run: plain values, as ``fedcli report --json`` prints them.

Accuracies are from 0 to 1, sizes in bytes, times in seconds. None means that the run directory
does not hold the value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fedcli.formats.evaluation import RocCurve, Score
from fedcli.formats.manifest import Absence, BoundedClaim, PartialContribution
from fedcli.formats.partition import Heterogeneity
from fedcli.formats.telemetry import EpochFigures
from fedcli.reporting.subject import Subject, subject_of


@dataclass(frozen=True)
class Note:
    """Something that the reader should know, and the command that would settle it."""

    text: str
    command: str | None = None


@dataclass(frozen=True)
class ClientRound:
    """One client in one round: its update, and how its training went if that is known.

    ``norm``, ``cosine``, ``distance``, ``kept``, ``steps`` and ``departures`` are as in
    ``Contribution``. ``update_round`` is
    the round that the update was trained for, an earlier one if it came late. ``bytes`` is the size
    of the update, ``bytes_down`` what the client received to train it, and ``drawn`` says that it
    drew the starting model itself.
    """

    client: str
    num_examples: int | None
    weight: float | None
    bytes: int | None
    update_round: int
    norm: float | None = None
    cosine: float | None = None
    distance: float | None = None
    kept: bool = True
    steps: int | None = None
    departures: dict[str, Any] = field(default_factory=dict)
    bytes_down: int | None = None
    drawn: bool = False
    seconds: float | None = None
    images_per_second: float | None = None
    device: str | None = None
    peak_memory_bytes: int | None = None
    epochs: tuple[EpochFigures, ...] = ()

    @property
    def local_loss(self) -> float | None:
        """The loss after the last local epoch, on the client's own examples."""
        return self.epochs[-1].loss if self.epochs else None

    @property
    def local_accuracy(self) -> float | None:
        """The accuracy after the last local epoch, on the client's own examples."""
        return self.epochs[-1].accuracy if self.epochs else None


@dataclass(frozen=True)
class RoundReport:
    """One round. ``complete`` says whether it ended with a global model.

    ``rule`` says in words how the updates were combined. ``client_level`` holds the options that
    hid the clients, as in ``Manifest``. ``sampled`` is None if every client was
    expected. ``bytes_up`` is the sum of the sizes of the accepted updates and partial means,
    ``bytes_down`` what their clients received to train them, ``bytes_total`` both, summed over this
    and all earlier rounds: what passes the server. In a centralised run all three are 0.
    ``epsilon`` is the ε that protects each example after this round, and ``epsilon_clients`` each
    client; None without privacy, where it has no bound, and where it was not computed.
    """

    number: int
    complete: bool
    rule: str | None = None
    strategy: str | None = None
    reduce: str | None = None
    server_optimizer: str | None = None
    weighting: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    client_level: dict[str, Any] = field(default_factory=dict)
    sampled: tuple[str, ...] | None = None
    clients: tuple[ClientRound, ...] = ()
    partials: tuple[PartialContribution, ...] = ()
    missing: tuple[Absence, ...] = ()
    late: tuple[Absence, ...] = ()
    rejected: tuple[Absence, ...] = ()
    bounded: tuple[BoundedClaim, ...] = ()
    remarks: tuple[str, ...] = ()
    bytes_up: int | None = None
    bytes_down: int | None = None
    bytes_total: int | None = None
    training_seconds_max: float | None = None
    training_seconds_sum: float | None = None
    aggregation_seconds: float | None = None
    evaluation_seconds: float | None = None
    epsilon: float | None = None
    epsilon_clients: float | None = None
    scores: tuple[Score, ...] = ()

    @cached_property
    def leaves_out(self) -> bool:
        """Whether the rule did not use every update that was accepted."""
        return not all(client.kept for client in self.clients)

    @property
    def clients_in_partials(self) -> int:
        """How many clients took part within partial means."""
        return sum(partial.clients for partial in self.partials)

    def score(self, subject: Subject) -> Score | None:
        """Return the score of a subject in this round."""
        return self._by_subject.get(subject)

    @cached_property
    def _by_subject(self) -> Mapping[Subject, Score]:
        return {subject_of(score): score for score in reversed(self.scores)}


@dataclass(frozen=True)
class ClientReport:
    """One client over the whole run.

    Local loss, local accuracy and weight are of the last round that it took part in; seconds and
    bytes are sums over all rounds. The other accuracies are of the latest round that has them:
    ``validation_accuracy`` and ``test_accuracy`` of the global model on the client's held-out and
    test examples, ``personal_accuracy`` of its personal model on its own examples, and
    ``own_accuracy`` of its update on the examples that global models are tested on.

    ``rounds`` counts the rounds with an update of its own, ``sampled`` those that it was drawn for
    (None if no round was sampled), ``missing`` and ``rejected`` those that went on without it.
    ``stale`` counts its updates that were accepted in a later round, ``late`` those that came too
    late to count.
    """

    client: str
    examples: int | None
    label_counts: tuple[int, ...] | None
    rounds: int
    stale: int
    local_loss: float | None
    local_accuracy: float | None
    seconds: float | None
    device: str | None
    weight: float | None
    bytes_up: int | None
    bytes_down: int | None
    sampled: int | None = None
    missing: int = 0
    late: int = 0
    rejected: int = 0
    validation_accuracy: float | None = None
    own_accuracy: float | None = None
    test_accuracy: float | None = None
    personal_accuracy: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How a run was made: options by name, in the sections of a plan; only those that are set.

    ``data`` holds as ``content`` what identifies the examples. ``seeds`` has ``data_seed`` and
    ``partition_seed`` only if they differ from ``seed``. ``versions`` and ``hardware`` are those of
    all training and aggregation, as far as files say; ``commands`` make such a run and each of its
    rounds. ``departures`` says which clients left what all others did, and how.
    """

    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    partition: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    aggregate: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    hardware: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """All of it by name, apart from the seeds."""
        own = {"departures": self.departures} if self.departures else {}
        return {**self.data, **self.model, **self.partition, **self.train, **self.aggregate, **own}


@dataclass(frozen=True)
class RunReport:
    """One run; ``label`` is its name in tables.

    Runs that are tested on the same examples have the same ``test_content_sha256``.
    ``heterogeneity`` says how much the clients' examples differ; it is None if they keep theirs.
    ``roc`` is the ROC curve of the latest score of the headline, for two classes.
    ``parameters`` are those of the scheme. ``training`` has the options of the latest training, and
    ``algorithm`` names its algorithm in words.
    """

    label: str
    path: str
    run: str
    dataset: str
    model: str
    scheme: str | None
    classes: tuple[str, ...]
    centralised: bool
    test_content_sha256: str | None
    rounds: tuple[RoundReport, ...]
    clients: tuple[ClientReport, ...]
    notes: tuple[Note, ...]
    heterogeneity: Heterogeneity | None = None
    seed: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    training: dict[str, Any] = field(default_factory=dict)
    algorithm: str | None = None
    roc: RocCurve | None = None

    def complete_rounds(self) -> tuple[RoundReport, ...]:
        """Return the rounds that have a global model, round 0 among them."""
        return tuple(round_ for round_ in self.rounds if round_.complete)

    def trained_rounds(self) -> tuple[RoundReport, ...]:
        """Return the complete rounds after round 0."""
        return tuple(round_ for round_ in self.complete_rounds() if round_.number > 0)

    @property
    def facts(self) -> tuple[str, ...]:
        """The data, the model, how it was cut, trained and combined, as far as they are known."""
        known = [round_ for round_ in self.trained_rounds() if round_.rule]
        rule, strategy = (known[-1].rule, known[-1].strategy) if known else (None, None)
        algorithm = None if self.algorithm == "fedavg" else self.algorithm
        if algorithm is not None and self.training.get("algorithm") == strategy:
            rule = None if rule == strategy else rule  # one name for both halves
        lr, seed = self.training.get("lr"), self.seed
        return tuple(
            filter(
                None,
                (
                    self.dataset,
                    self.model,
                    self._cut,
                    algorithm,
                    None if rule is None else f"combined by {rule}" if algorithm else rule,
                    None if lr is None else f"lr {lr:g}",
                    None if seed is None else f"seed {seed}",
                ),
            )
        )

    @property
    def _cut(self) -> str | None:
        """The scheme with its numbers, such as ``dirichlet (alpha 0.5)``."""
        numbers = [
            f"{name.replace('_', ' ')} {value:g}"
            for name, value in self.parameters.items()
            if type(value) in (int, float)
        ]
        return f"{self.scheme} ({', '.join(numbers)})" if self.scheme and numbers else self.scheme

    def latest(self, subject: Subject) -> tuple[RoundReport, Score] | None:
        """Return the latest score of a subject, and its round."""
        for round_ in reversed(self.rounds):
            if score := round_.score(subject):
                return round_, score
        return None
