"""The options that a run was made with, by section and key, from its ``run.json``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from fedcli.plan import Plan, TrainPlan
from fedcli.run.info import ModelInfo, RunInfo
from fedcli.run.normalization import normalization_named

PLACE = "PATH"  # of data, which a run does not know
FILE = "FILE"
NAME = "NAME"  # of a group
_BY_PATH = ("imagefolder", "npz")  # data sets whose name is followed by a place


def has_data(info: RunInfo) -> bool:
    """Return whether the run was made from a data set, and not by ``init``."""
    return info.origin.get("step") != "init"


def settings_of(
    info: RunInfo, data_options: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, dict[str, Any]]:
    """Return the options that make the same run, without those at their defaults.

    ``data_options`` are as in ``PartitionFile``. Words in capitals stand for what a run does not
    know: where files are. Values are as they stand in the files, which may be anybody's.
    """
    data = {**_data(info), **_reading(info), **data_options}
    sections = {
        "data": data if has_data(info) else _pictures(info),
        "partition": dict(_partition(info.origin)),
        "model": dict(_model(info)),
        **_plan(info.plan),
        "run": {"seed": info.seed},
    }
    return {name: _given(values) for name, values in sections.items()}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _identity(info: RunInfo) -> Mapping[str, Any]:
    data = info.origin.get("data")
    return data if isinstance(data, Mapping) else {}


def _reading(info: RunInfo) -> dict[str, Any]:
    """Return the options of folders of pictures; runs of older versions do not say which."""
    data = _identity(info)
    by_table = "labels" in data
    group = "group_column" if by_table else "group"
    has_groups = info.dataset.name == "imagefolder" and "groups" in data
    return {"labels_csv": FILE if by_table else None, group: NAME if has_groups else None}


def _data(info: RunInfo) -> dict[str, Any]:
    origin, name, data = info.origin, info.dataset.name, _identity(info)
    height, width = info.dataset.shape[-2:] if len(info.dataset.shape) > 1 else (0, 1)
    fixed = name == "synthetic" or info.dataset.dtype != "uint8" or height != width
    return {
        "dataset": f"{name}:{PLACE}" if name in _BY_PATH else name,
        "image_size": None if fixed else _side(info),
        "limit": data.get("limit"),
        "test_fraction": data.get("test_fraction"),
        "val_fraction": origin.get("val_fraction") or None,
        "test_split": origin.get("test_split"),
        "window": _words(info.dataset.window),
        "layout": data.get("layout"),
        "data_seed": origin.get("data_seed"),
    }


def _side(info: RunInfo) -> int | None:
    return info.dataset.shape[-1] if info.dataset.shape else None


def _pictures(info: RunInfo) -> dict[str, Any]:
    window = _words(info.dataset.window)
    return {"image_size": _side(info), "window": window}


def _words(window: Sequence[float] | None) -> str | None:
    return None if window is None else ",".join(f"{value:g}" for value in window)


def _partition(origin: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "scheme", origin.get("scheme")
    parameters = origin.get("parameters")
    yield from parameters.items() if isinstance(parameters, Mapping) else ()
    yield "partition_seed", origin.get("partition_seed")


def _model(info: RunInfo) -> Iterator[tuple[str, Any]]:
    usual, model = asdict(ModelInfo()), asdict(info.model)
    yield "model", model.pop("name")
    yield from ((key, value) for key, value in model.items() if value != usual[key])
    pretrained = info.origin.get("pretrained") or None
    yield "init_from", FILE if info.origin.get("init_from") else None
    yield "pretrained", pretrained
    yield "normalize", _normalization(info)


def _normalization(info: RunInfo) -> str | None:
    """Return the name of the constants; None where they are those that the start implies."""
    if info.dataset.dtype != "uint8":
        return None
    name = normalization_named(info.dataset.mean, info.dataset.std)
    has_weights = info.origin.get("init_from") or info.origin.get("pretrained")
    usual = "half" if not has_weights else "imagenet" if info.origin.get("pretrained") else None
    return None if name == usual else name


def _plan(plan: Plan) -> dict[str, dict[str, Any]]:
    usual, training = TrainPlan().as_json(), plan.train.as_json()
    rule = asdict(plan.aggregate)
    if rule["strategy"] == plan.train.local.strategy:
        del rule["strategy"]
    return {
        "train": {key: value for key, value in training.items() if value != usual.get(key)},
        "aggregate": rule,
        **({} if plan.secagg is None else {"secagg": plan.secagg.options}),
    }
