"""The commands that make a run like a given one, from its ``run.json`` and its rounds."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fedcli.options import option_of
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.aggregate import PARTS
from fedcli.plan.sections import option_words
from fedcli.plan.train import TRAIN_OPTIONS
from fedcli.reporting.model import RoundReport
from fedcli.reporting.rules import planned_rule
from fedcli.run.info import ModelInfo, RunInfo

_BY_PATH = ("imagefolder", "npz")  # data sets whose name is followed by a place
_HALF = (0.5,)  # mean of pixels, if nothing else is asked for


def command_lines(
    info: RunInfo,
    name: str,
    shared: Mapping[str, Any],
    last: RoundReport | None,
    *,
    data_options: Mapping[str, Any],
    evaluated: bool,
) -> tuple[str, ...]:
    """Return the command that makes a run called ``name``, and those of each of its rounds.

    ``shared`` are the options in which all clients left the plan; ``last`` is the latest round,
    whose rule may have; ``data_options`` are as in ``PartitionFile``. Words in capitals stand for
    what a run does not know: where files are.
    """
    data = [] if _has_data(info) else ["--data", "PATH"]
    model = ["--model", info.model.name] if info.model.is_users_own else []
    who = ["--id", "all" if _has_data(info) else "ID"]
    signed = ["--key", "FILE"] if info.members else []
    rounds = (
        ["train-client", *who, *data, *model, *_changed(shared), *signed],
        ["aggregate", *_rule(info, last), *(["--key", "FILE"] if info.coordinator else [])],
        *([["evaluate", *data, *model]] if evaluated else []),
    )
    return tuple(
        _line(words, name) for words in ([*_make(info), *_reading(info, data_options)], *rounds)
    )


def _reading(info: RunInfo, given: Mapping[str, Any]) -> list[str]:
    """Return the options of folders of pictures; runs of older versions do not say which."""
    data = info.origin.get("data")
    data = data if isinstance(data, Mapping) else {}
    by_table = "labels" in data
    group = "group_column" if by_table else "group"
    has_groups = info.dataset.name == "imagefolder" and "groups" in data
    options = {"labels_csv": "FILE" if by_table else None, group: "NAME" if has_groups else None}
    return option_words({**options, **given})


def _changed(shared: Mapping[str, Any]) -> Iterator[str]:
    for key, value in shared.items():
        if value is None and key in TRAIN_OPTIONS:
            yield from (option_of(key), "none" if TRAIN_OPTIONS[key].many else "0")
        else:
            yield from option_words({key: value})


def _rule(info: RunInfo, last: RoundReport | None) -> Iterator[str]:
    """Yield what the latest round had otherwise than the plan, and a function of the user's."""
    own = info.plan.aggregate.reduce
    if own and ":" in own:  # no file can ask for it
        yield from ("--reduce", own)
    elif last is not None and last.strategy:
        planned = planned_rule(info.plan.aggregate)
        used = {key: getattr(last, key) for key in ("strategy", *PARTS)} | last.options
        yield from option_words({k: v for k, v in used.items() if v != planned.get(k)})


def _line(words: Sequence[str], name: str) -> str:
    step, *rest = words
    return shlex.join(["fedcli", step, "--run", name, *rest])


def _has_data(info: RunInfo) -> bool:
    return info.origin.get("step") != "init"


def _make(info: RunInfo) -> list[str]:
    made = ["partition", *_partition(info)] if _has_data(info) else ["init", *_init(info)]
    seeds = {"seed": info.seed, **{k: info.origin.get(k) for k in ("data_seed", "partition_seed")}}
    return [*made, *_start(info), *_plan(info.plan), *option_words(seeds)]


def _partition(info: RunInfo) -> Iterator[str]:
    origin, name = info.origin, info.dataset.name
    data = origin.get("data")
    data = data if isinstance(data, Mapping) else {}
    yield from ("--dataset", f"{name}:PATH" if name in _BY_PATH else name)
    side = info.dataset.shape[-1]
    fixed = name == "synthetic" or info.dataset.dtype != "uint8"
    options = {
        "image_size": None if fixed or name == "npz" else side,
        "limit": data.get("limit"),
        "test_fraction": data.get("test_fraction"),
        "val_fraction": origin.get("val_fraction") or None,
        "test_split": origin.get("test_split"),
        "window": _commas(info.dataset.window),
        "layout": data.get("layout"),
        "scheme": origin.get("scheme"),
    }
    yield from option_words(options)
    yield from _scheme(origin.get("parameters"))


def _scheme(parameters: Any) -> Iterator[str]:
    for name, value in (parameters if isinstance(parameters, Mapping) else {}).items():
        lists = isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple)
        for one in value if lists else [value]:
            yield from option_words({name: tuple(one) if isinstance(one, list) else one})


def _init(info: RunInfo) -> Iterator[str]:
    yield from ("--classes", ",".join(info.dataset.classes))
    for member in info.members.items():
        yield from ("--member", "=".join(member))
    clients = "" if info.members else ",".join(info.clients)
    options = {
        "clients": clients or None,
        "image_size": info.dataset.shape[-1],
        "channels": info.dataset.shape[0],
        "window": _commas(info.dataset.window),
        "key": "FILE" if info.coordinator else None,
    }
    yield from option_words(options)


def _commas(values: Sequence[float] | None) -> str | None:
    return None if values is None else ",".join(f"{value:g}" for value in values)


def _start(info: RunInfo) -> Iterator[str]:
    model, usual = asdict(info.model), asdict(ModelInfo())
    yield from ("--model", model.pop("name"))
    yield from option_words({k: v for k, v in model.items() if v != usual[k]})
    given = info.origin.get("init_from")
    yield from ("--init-from", "FILE") if given else ()
    yield from ("--pretrained",) if info.origin.get("pretrained") else ()
    if info.dataset.dtype == "uint8" and info.dataset.mean != _HALF:
        yield from () if info.origin.get("pretrained") else ("--normalize", "imagenet")


def _plan(plan: Plan) -> Iterator[str]:
    usual = TrainPlan().as_json()
    training = plan.train.as_json()
    yield from option_words({k: _tuple(v) for k, v in training.items() if v != usual.get(k)})
    rule = {key: value for key, value in asdict(plan.aggregate).items() if value is not None}
    if rule.get("strategy") == plan.train.local.strategy:
        rule.pop("strategy")
    yield from option_words(rule)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
