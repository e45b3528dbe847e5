"""Which runs are repetitions of one method, and what a method is called."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from fedcli.errors import UsageError
from fedcli.reporting.run_report import Note, RunReport
from fedcli.reporting.training import value_named
from fedcli.reporting.words import named
from fedcli.text import printable

RUN = "run"  # --group-by run: every run by itself

# Options whose values need no name beside them; they come first in the name of a method.
_SELF_EXPLANATORY = (
    "algorithm",
    "strategy",
    "reduce",
    "weighting",
    "server_optimizer",
    "scheme",
    "model",
)
_FIRST = ("centralised", *_SELF_EXPLANATORY, "dataset")
_LONGEST = 40  # characters of a value in a label
_DIGEST = 8  # characters of the digest of a file

Runs = Sequence[RunReport]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """Runs that are one method; ``differs`` holds the options in which the methods differ."""

    label: str
    runs: Runs
    differs: dict[str, Any]


def grouped(runs: Runs, group_by: Sequence[str] = ()) -> list[Group]:
    """Return runs that were made alike together, in the order of their first ones.

    ``group_by`` is as in ``methods_of``. Without it, runs that have a seed in common stay apart:
    they are no repetitions. Raises ``UsageError`` for an option that no run has.
    """
    _check_keys(runs, group_by)
    keys = () if RUN in group_by else group_by
    groups = defaultdict[str, list[RunReport]](list)
    for i, run in enumerate(runs):
        made = _text(_options(run, keys))
        groups[f"{i} {made}" if RUN in group_by else made].append(run)
    found = list(groups.values())
    return _named(found if keys else list(_repetitions(found)), keys)


def _repetitions(groups: Iterable[Runs]) -> Iterator[Runs]:
    for runs in groups:
        if _same_seeds(runs):
            yield from ([run] for run in runs)
        else:
            yield runs


def same_seed_notes(runs: Runs) -> list[Note]:
    """Say which runs were not taken together since they have the same seeds."""
    alike = defaultdict[str, list[RunReport]](list)
    for run in runs:
        alike[_text(run.recipe.options)].append(run)
    return [
        Note(
            f"{named('run', [run.label for run in group])} were made alike, but some have the same"
            " seeds: they are not taken as repetitions of one method"
        )
        for group in alike.values()
        if len(group) > 2 and _same_seeds(group)
    ]


def _same_seeds(runs: Runs) -> bool:
    return len({_text(run.recipe.seeds) for run in runs}) < len(runs)


def _check_keys(runs: Runs, group_by: Sequence[str]) -> None:
    known = [RUN, *sorted({key for run in runs for key in _all_options(run)})]
    for key in group_by:
        if key not in known:
            close = get_close_matches(key, known, 1)
            raise UsageError(
                f"--group-by: no run has an option {key!r}; known: {', '.join(known)}",
                hint=f"did you mean --group-by {close[0]}?" if close else None,
            )


def _options(run: RunReport, keys: Sequence[str]) -> dict[str, Any]:
    """Return what a run is grouped by: these options, or all but the seeds."""
    if not keys:
        return run.recipe.options
    found = _all_options(run)
    return {key: found[key] for key in keys if key in found}


def _all_options(run: RunReport) -> dict[str, Any]:
    return {**run.recipe.seeds, **run.recipe.options}


def _text(value: Any) -> str:
    """Return a text that is the same for equal values, whatever the type of a number."""
    return json.dumps(_plain(value), sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if type(value) is float and value.is_integer() else value


def _named(groups: Sequence[Runs], group_by: Sequence[str]) -> list[Group]:
    """Name groups by the options in which they differ; single runs keep their names."""
    options = [_options(runs[0], group_by) for runs in groups]
    keys = differing(options)
    if all(len(runs) == 1 for runs in groups):
        labels = [runs[0].label for runs in groups]
    else:
        labels = _labels(groups, options, group_by or telling(options, keys))
    return [
        Group(label, runs, {key: one[key] for key in keys if key in one})
        for label, runs, one in zip(labels, groups, options, strict=True)
    ]


def differing(options: Sequence[Options]) -> list[str]:
    """Return the options in which some differ, those that name a method first."""
    known = dict.fromkeys(key for one in options for key in one)
    ordered = dict.fromkeys([*(key for key in _FIRST if key in known), *known])
    return [key for key in ordered if len({_value(one, key) for one in options}) > 1]


def _value(options: Options, key: str) -> str:
    return _text(options[key]) if key in options else ""


def telling(options: Sequence[Options], keys: Iterable[str]) -> list[str]:
    """Return as few of the keys as tell all options apart, earlier ones first."""
    chosen: list[str] = []
    told_apart = 1
    for key in keys:
        parts = {tuple(_value(one, k) for k in (*chosen, key)) for one in options}
        if len(parts) > told_apart:
            chosen, told_apart = [*chosen, key], len(parts)
    return chosen


def _labels(groups: Sequence[Runs], options: Sequence[Options], keys: Sequence[str]) -> list[str]:
    labels = [
        ", ".join(filter(None, (_words(one, key, keys, options) for key in keys))) or _whole(runs)
        for one, runs in zip(options, groups, strict=True)
    ]
    taken = Counter(labels)
    return [
        label if taken[label] == 1 else runs[0].label if len(runs) == 1 else f"{label} #{i + 1}"
        for i, (label, runs) in enumerate(zip(labels, groups, strict=True))
    ]


def _words(one: Options, key: str, keys: Sequence[str], options: Sequence[Options]) -> str:
    """Write one option of a label: ``fedprox``, ``alpha 0.1`` or ``no proximal``."""
    name = key.replace("_", " ")
    if key == "centralised":
        return "centralised" if one.get(key) else "federated"
    if key not in one:
        return "" if _is_of_others(key, one, keys, options) else f"no {name}"
    text = printable(short_value(one[key]), _LONGEST)
    return name if one[key] is True else text if key in _SELF_EXPLANATORY else f"{name} {text}"


def _is_of_others(key: str, one: Options, keys: Sequence[str], options: Sequence[Options]) -> bool:
    """Return whether an option belongs to what other methods are called by, such as FedProx's μ."""
    speaking = [k for k in keys if k in _SELF_EXPLANATORY]
    alike = [o for o in options if all(_value(o, k) == _value(one, k) for k in speaking)]
    return all(key not in other for other in alike)


def short_value(value: Any) -> str:
    """Write the value of an option; a digest is cut."""
    if value is True:
        return "yes"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {short_value(item)}" for key, item in value.items())
    text = value_named(value)
    return text[:_DIGEST] if len(text) == 64 and text.isalnum() else text


def _whole(runs: Runs) -> str:
    """Name a method without any other by its algorithm, or by its rule if that says more."""
    algorithm = runs[0].algorithm or "all runs"
    rule = runs[0].recipe.aggregate.get("strategy")
    return str(rule) if rule and algorithm == "fedavg" else algorithm
