"""Options of training in which a client left the run's plan."""

from collections.abc import Mapping
from typing import Any

from fedcli.errors import UsageError
from fedcli.formats.records import encode
from fedcli.formats.training_record import TrainingRecord
from fedcli.plan.train import NOT_RECORDED, TRAIN_OPTIONS, TrainPlan
from fedcli.text import printable

_MOST = 8  # options, and characters of a text: clients may record anything, and there may be many
_MOST_TEXT = 40
_LIST = (tuple, list)
_COMPARED = ("algorithm", *(key for key in TRAIN_OPTIONS if key != "algorithm"))
_ALWAYS = {"optimizer", "lr", "batch_size"}  # in what train-client records


def planned(plan: TrainPlan, round_number: int) -> dict[str, Any]:
    """Return the options of a round's training as an update that follows the plan records them."""
    try:
        return plan.resolved().recorded(round_number)
    except UsageError:  # a schedule that has come to 0
        return {key: v for key, v in plan.resolved().as_json().items() if key not in NOT_RECORDED}


class Departures:
    """The options in which trainings of a round left the plan."""

    def __init__(self, plan: TrainPlan, round_number: int) -> None:
        from fedcli.codecs import PLAIN  # here, as --help does without

        self._not_recorded = {"encode": PLAIN}
        self._expected = {**self._not_recorded, **planned(plan, round_number)}
        self._keys = [key for key in _COMPARED if key not in NOT_RECORDED]
        if plan.local.keeps_layers:
            self._keys.remove("local_layers")  # they follow from the model
        if plan.target_epsilon is not None:
            self._keys.remove("noise_multiplier")  # it follows from the number of examples

    def of(self, training: TrainingRecord) -> dict[str, Any]:
        """Return the options in which a training left the plan, with its own values; None is off.

        A record of another program may lack options; only those that it has are compared.
        """
        found = {**self._not_recorded, **encode(training)}
        if "epochs" in found:
            found.pop("steps", None)
        keys = self._keys
        if _ALWAYS - found.keys():
            keys = [key for key in keys if key in found]
        different = [key for key in keys if not _same(self._expected.get(key), found.get(key))]
        return {key: _short(found.get(key)) for key in different[:_MOST]}


def _same(planned: Any, found: Any) -> bool:
    if isinstance(planned, _LIST) and isinstance(found, _LIST):
        return list(planned) == list(found)
    return bool(planned == found)


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        value = "another value"
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return printable(text, _MOST_TEXT)
