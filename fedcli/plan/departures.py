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
_COMPARED = ("algorithm", *(key for key in TRAIN_OPTIONS if key != "algorithm"))
_ALWAYS = {"optimizer", "lr", "batch_size"}  # in what train-client records


def planned(plan: TrainPlan, round_number: int) -> dict[str, Any]:
    """Return the options of a round's training as an update that follows the plan records them."""
    try:
        return plan.resolved().recorded(round_number)
    except UsageError:  # a schedule that has come to 0
        return {key: v for key, v in plan.resolved().as_json().items() if key not in NOT_RECORDED}


def departures(plan: TrainPlan, round_number: int, training: TrainingRecord) -> dict[str, Any]:
    """Return the options in which a training left the plan, with its own values; None is off.

    A record of another program may lack options; only those that it has are compared.
    """
    from fedcli.codecs import PLAIN  # here, as --help does without

    not_recorded = {"encode": PLAIN}
    expected = {**not_recorded, **planned(plan, round_number)}
    found = {**not_recorded, **encode(training)}
    if "epochs" in found:
        found.pop("steps", None)
    keys = [key for key in _COMPARED if key not in NOT_RECORDED]
    if plan.local.keeps_layers:
        keys.remove("local_layers")  # they follow from the model
    if plan.target_epsilon is not None:
        keys.remove("noise_multiplier")  # it follows from the number of examples
    if _ALWAYS - found.keys():
        keys = [key for key in keys if key in found]
    different = [key for key in keys if not _same(expected.get(key), found.get(key))]
    return {key: _short(found.get(key)) for key in different[:_MOST]}


def _same(planned: Any, found: Any) -> bool:
    if isinstance(planned, tuple | list) and isinstance(found, tuple | list):
        return list(planned) == list(found)
    return bool(planned == found)


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        value = "another value"
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return printable(text, _MOST_TEXT)
