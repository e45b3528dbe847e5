"""The command lines that reproduce a run, as far as its files tell.

A run holds no paths: they are written as ``PATH`` and ``FILE``.
"""

import shlex
from collections.abc import Sequence
from typing import Any

from fedcli.algorithms import ALGORITHMS
from fedcli.errors import UsageError
from fedcli.exporting.history import RoundHistory, stretches
from fedcli.plan import TrainPlan
from fedcli.plan.aggregate import PARTS
from fedcli.plan.client_level import settled_options
from fedcli.plan.rule import resolve
from fedcli.plan.sections import option_words
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.run.sampling import sample_size
from fedcli.text import listed, printable

_OWN_PATH = ("imagefolder", "npz")
_SIZES = ("sizes", "angles")  # options of partition that hold several numbers
_CONSTANTS = {  # of pixels; grey ones have the mean over the channels
    ((0.5,), (0.25,)): "half",
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "imagenet",
    ((0.449,), (0.226,)): "imagenet",
}
_OF_MACHINE = ("device", "compile", "lr")


def commands(run: Run, rounds: Sequence[RoundHistory]) -> list[str]:
    """Return the command lines that reproduce the run and its rounds."""
    info = run.info
    if info.origin.get("step") == "partition":
        lines = [_line("partition", _partition(info))]
    else:
        lines = [_line("init", _init(info))]
    for stretch in stretches(list(rounds)):
        lines += _rounds(info, stretch)
    return lines


def _line(command: str, words: Sequence[str]) -> str:
    return printable(" ".join(["fedcli", command, *map(shlex.quote, words)]))


def _partition(info: RunInfo) -> list[str]:
    origin, dataset = info.origin, info.dataset
    data = origin.get("data", {})
    name = f"{dataset.name}:PATH" if dataset.name in _OWN_PATH else dataset.name
    parameters = dict(origin.get("parameters", {}))
    labels = parameters.pop("labels", ())
    parameters |= {key: tuple(parameters[key]) for key in _SIZES if key in parameters}
    asked = {
        "dataset": name,
        "image_size": dataset.shape[-1] if dataset.name == "imagefolder" else None,
        "labels_csv": "FILE" if "labels" in data else None,
        "limit": data.get("limit"),
        "test_fraction": data.get("test_fraction"),
        "val_fraction": origin.get("val_fraction") or None,
        "test_split": origin.get("test_split"),
        "scheme": origin.get("scheme"),
        **parameters,
    }
    words = option_words(asked)
    for one in labels:
        words += ["--labels", listed(one, ",")]
    return words + _start(info)


def _init(info: RunInfo) -> list[str]:
    channels, _, side = info.dataset.shape
    words = ["--classes", listed(info.dataset.classes, ",")]
    words += option_words({"image_size": side, "channels": channels})
    for client, key in info.member_lines.items():
        words += ["--member", f"{client}={key}"]
    if info.clients and not info.members:
        words += ["--clients", ",".join(info.clients)]
    if info.coordinator is not None:
        words += ["--key", "FILE"]
    return words + _start(info)


def _start(info: RunInfo) -> list[str]:
    """Return the model, what differs from the built-in plan, and the seed."""
    model, origin = info.model, info.origin
    asked: dict[str, Any] = {
        "model": model.name,
        "lora": model.lora,
        "lora_alpha": model.lora_alpha,
        "transform_input": model.transform_input,
    }
    if model.name == "resnet18":
        asked |= {"stem": model.stem, "norm": model.norm}
    if origin.get("init_from") is not None:
        asked["init_from"] = "FILE"
    words = option_words(asked)
    if origin.get("pretrained"):
        words.append("--pretrained")
    if info.plan.secagg is not None:
        words += option_words(info.plan.secagg.options)
    usual = TrainPlan().as_json()
    train = {k: v for k, v in info.plan.train.as_json().items() if usual.get(k) != v}
    rule = {**info.plan.as_json()["aggregate"]}
    if rule["strategy"] == info.plan.train.local.strategy:
        del rule["strategy"]
    return words + option_words(
        {
            **train,
            **rule,
            "normalize": _normalize(info),
            **_window(info),
            "seed": info.seed,
            "noise_key": "FILE" if info.noise_key else None,
        }
    )


def _window(info: RunInfo) -> dict[str, str]:
    window = info.dataset.window
    return {} if window is None else {"window": f"{window[0]:.15g},{window[1]:.15g}"}


def _normalize(info: RunInfo) -> str | None:
    """Return the normalisation that was asked for, None if it is what the weights expect."""
    dataset, pretrained = info.dataset, bool(info.origin.get("pretrained"))
    if dataset.dtype != "uint8":
        return None
    name = _CONSTANTS.get((tuple(dataset.mean), tuple(dataset.std)))
    usual = None if info.origin.get("init_from") else "imagenet" if pretrained else "half"
    return None if name == usual else name


def _rounds(info: RunInfo, stretch: Sequence[RoundHistory]) -> list[str]:
    """Return the commands of a stretch of rounds, after remarks on what they cannot say."""
    history, last = stretch[-1], stretch[-1].round
    training = _training(info.plan.train, history)
    rule = {} if history.manifest is None else _rule(info, history)
    own = {"model": info.model.name} if info.model.is_users_own else {}
    noisy = bool(info.plan.aggregate.update_noise) and info.plan.secagg is None
    noise = {"noise_key": "FILE" if noisy else None}
    lines = list(_remarks(stretch))
    if info.origin.get("step") == "partition":
        options = option_words({"rounds": last, **training, **rule, **own, **noise})
        return [*lines, _line("run", options)]
    where = (
        f"# rounds {stretch[0].round} to {last}, each" if len(stretch) > 1 else f"# round {last}"
    )
    keys = ["--key", "FILE"] if info.members else []
    own_data = ["--id", "ID", "--data", "PATH", *keys]
    sign = ["--key", "FILE"] if info.coordinator is not None else []
    opening = [_line("aggregate", ["--close", *sign]), _line("unmask", ["--id", "ID", *keys])]
    return [
        *lines,
        f"{where}, on every client's own data",
        _line("train-client", own_data + option_words({**training, **own})),
        *(opening if info.plan.secagg is not None else []),
        _line("aggregate", option_words({**rule, **noise}) + sign),
    ]


def _training(plan: TrainPlan, history: RoundHistory) -> dict[str, Any]:
    """Return the options of training that differ from the plan, and the number of threads."""
    if len(history.trainings) != 1:
        return {}
    used, planned = history.trainings[0], plan.resolved().as_json()
    given = {key: _comparable(value) for key, value in used.items() if key not in _OF_MACHINE}
    options = {key: value for key, value in given.items() if planned.get(key) != value}
    if plan.lr_schedule == "constant" and used.get("lr") != plan.lr:
        options["lr"] = used.get("lr")
    if ALGORITHMS[str(used.get("algorithm", plan.algorithm))].keeps_layers:
        options.pop("local_layers", None)  # the algorithm sets them itself
    return options


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _rule(info: RunInfo, history: RoundHistory) -> dict[str, Any]:
    """Return the options of aggregation that differ from the plan."""
    manifest, plan = history.manifest, info.plan
    assert manifest is not None
    typed: dict[str, Any] = {}
    if manifest.strategy != plan.aggregate.strategy:
        typed["strategy"] = manifest.strategy
    try:
        parts = resolve(plan.aggregate.with_options(typed))
        typed |= {
            name: getattr(manifest, name)
            for name in PARTS
            if getattr(manifest, name) != getattr(parts, name)
        }
        options = resolve(plan.aggregate.with_options(typed)).options
    except UsageError:  # a user's own function, which must not be run here
        return {**typed, "reduce": manifest.reduce}
    typed |= {k: v for k, v in manifest.options.items() if k in options and options[k] != v}
    planned = {**plan.aggregate.limits, **plan.aggregate.downlink}
    used = {**manifest.limits, **manifest.downlink}
    planned |= settled_options(plan.aggregate, sample_size(plan.aggregate, len(info.clients)))
    used |= manifest.client_level
    return typed | {k: v for k, v in used.items() if planned.get(k) != v}


def _remarks(stretch: Sequence[RoundHistory]) -> list[str]:
    remarks = []
    if any(len(history.trainings) > 1 for history in stretch):
        remarks.append("# clients trained with different options, which each update records")
    if any(not history.trainings for history in stretch):
        remarks.append("# how clients trained is no longer in the run; the plan is assumed")
    absent = [
        str(history.round)
        for history in stretch
        if (m := history.manifest) is not None and (m.missing or m.late or m.rejected or m.partials)
    ]
    if absent:
        remarks.append(f"# who took part in round {', '.join(absent)} is in its aggregate.json")
    return remarks
