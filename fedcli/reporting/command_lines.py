"""The commands that make a run like a given one, from its ``run.json`` and its rounds."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedcli.options import option_of
from fedcli.plan.aggregate import PARTS
from fedcli.plan.sections import option_words
from fedcli.plan.train import TRAIN_OPTIONS
from fedcli.reporting.rules import planned_rule
from fedcli.reporting.run_report import RoundReport
from fedcli.run.info import RunInfo
from fedcli.run.inputs import has_data, settings_of
from fedcli.text import listed

_SEEDS = (("data_seed", "data"), ("partition_seed", "partition"))  # after the run's own


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
    data = [] if has_data(info) else ["--data", "PATH"]
    model = ["--model", info.model.name] if info.model.is_users_own else []
    who = ["--id", "all" if has_data(info) else "ID"]
    sign = [] if has_data(info) else ["--key", "FILE"]  # a simulation has its keys
    signed = sign if info.members else []
    masked = info.plan.secagg is not None
    rounds = (
        ["train-client", *who, *data, *model, *_changed(shared), *signed],
        *([["aggregate", "--close", *sign], ["unmask", "--id", "ID", *sign]] if masked else []),
        ["aggregate", *_rule(info, last), *(sign if info.coordinator else []), *_noise(info)],
        *([["evaluate", *data, *model]] if evaluated else []),
    )
    return tuple(_line(words, name) for words in ([*_make(info, data_options)], *rounds))


def _noise(info: RunInfo) -> list[str]:
    """Return the key that the coordinator draws noise from; members of a masked run have theirs."""
    noisy = bool(info.plan.aggregate.update_noise) and info.plan.secagg is None
    return option_words({"noise_key": "FILE" if noisy else None})


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


def _make(info: RunInfo, data_options: Mapping[str, Any]) -> Iterator[str]:
    found = settings_of(info, data_options)
    seeds = {**found.pop("run"), **{key: found[part].pop(key, None) for key, part in _SEEDS}}
    yield from ("partition",) if has_data(info) else ("init", *_init(info))
    for section in found.values():
        yield from _words(section)
    yield from option_words({**seeds, "noise_key": "FILE" if info.noise_key else None})


def _words(section: Mapping[str, Any]) -> Iterator[str]:
    for name, value in section.items():
        lists = isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple)
        for one in value if lists else [value]:
            yield from option_words({name: tuple(one) if isinstance(one, list) else one})


def _init(info: RunInfo) -> Iterator[str]:
    yield from ("--classes", listed(info.dataset.classes, ","))
    for member in info.member_lines.items():
        yield from ("--member", "=".join(member))
    clients = "" if info.members else ",".join(info.clients)
    options = {
        "clients": clients or None,
        "channels": info.dataset.shape[0] if info.dataset.shape else None,
        "key": "FILE" if info.coordinator else None,
    }
    yield from option_words(options)
