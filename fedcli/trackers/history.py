"""What a tracker is given of a run: its settings, and its values round by round."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from fedcli.reporting.measurements import PARTICIPATION, UPDATE, Measurement, measurements
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.settings import Setting, settings
from fedcli.text import printable
from fedcli.trackers.names import Names

MOST = 50  # clients, and classes, that have values of their own: each is a chart in a tracker
_LONGEST_TEXT = 500  # characters of a setting; every version of MLflow takes as many
_LONGEST = 1e9  # seconds; a file may claim any time, and the clocks of trackers have an end
OF_UPDATES = {
    *("weight", "seconds", "local_loss", "local_accuracy", "update_norm", "update_cosine")
}


@dataclass(frozen=True)
class RoundValues:
    """The values of one round by name; ``seconds`` is when it ended, counted from the start."""

    number: int
    seconds: float
    values: dict[str, float]


@dataclass(frozen=True)
class History:
    """One run; ``left_out`` says which clients and classes have no values of their own here."""

    run: str
    name: str
    settings: dict[str, Setting]
    rounds: tuple[RoundValues, ...]
    left_out: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells the run apart from any other: its id and what it is called."""
        return _digest(self.run, self.name)[:16]

    @property
    def content(self) -> str:
        """The SHA-256 of everything that a tracker keeps."""
        return _digest(self.run, self.name, self.settings, self.rounds)


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "backslashreplace")).hexdigest()


def history_of(run: RunReport) -> History:
    """Return the settings and the complete rounds of a run, as every tracker keeps them.

    Values are called as ``Names`` has it: ``test/accuracy``, ``round/bytes_total``,
    ``update/local_loss/3``, ``test by class/f1/disc``. Of the clients and of the classes, the
    first ``MOST`` have values of their own.
    """
    return History(
        run.run,
        printable(run.label),
        {"fedcli_run": run.run, **_settings(run)},
        _rounds(run),
        tuple(
            f"{MOST} of {len(all_)} {what}"
            for what, all_ in (("clients", run.clients), ("classes", run.classes))
            if len(all_) > MOST
        ),
    )


def _settings(run: RunReport) -> dict[str, Setting]:
    return {
        name: printable(value, _LONGEST_TEXT) if isinstance(value, str) else value
        for name, value in settings(run).items()
    }


def _rounds(run: RunReport) -> tuple[RoundValues, ...]:
    values = _values(run)
    result, seconds = [], 0.0
    for round_ in run.complete_rounds():
        times = (round_.training_seconds_max, round_.aggregation_seconds, round_.evaluation_seconds)
        seconds = min(seconds + sum(filter(None, times)), _LONGEST)
        result.append(RoundValues(round_.number, seconds, values.get(round_.number, {})))
    return tuple(result)


def _values(run: RunReport) -> dict[int, dict[str, float]]:
    names = Names()
    by_round = groupby(_shown(run), key=lambda one: one.round)
    return {
        number: {names.of(one): float(one.value) for one in found} for number, found in by_round
    }


def _shown(run: RunReport) -> Iterable[Measurement]:
    """Return what is worth a curve, without the clients and the classes that are too many."""
    clients = {client.client for client in run.clients[MOST:]}
    classes = set(run.classes[MOST:])
    for one in measurements(run):
        if one.client not in clients and one.class_name not in classes and _is_curve(one):
            yield one


def _is_curve(one: Measurement) -> bool:
    if one.subject == UPDATE:
        return one.measure in OF_UPDATES
    is_presence = one.subject == PARTICIPATION or one.measure == "label_count"
    return not is_presence and one.measure != "examples"
