"""How a run was made, from its ``run.json``, its partition and its rounds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fedcli.formats.partition import PartitionFile
from fedcli.plan.aggregate import LIMITS, SAMPLING
from fedcli.reporting.model import ClientRound, Recipe, RoundReport
from fedcli.reporting.training import shared_departures, value_named
from fedcli.reporting.words import rounds_named
from fedcli.run.info import RunInfo

SEEDS = ("seed", "data_seed", "partition_seed")
_RULE = ("strategy", "reduce", "weighting", "server_optimizer")
_AS_PLANNED = object()


def recipe_of(
    info: RunInfo, partition: PartitionFile | None, rounds: Sequence[RoundReport]
) -> Recipe:
    """Return the options that made a run: those of its plan, and what its rounds did instead."""
    trained = [round_ for round_ in rounds if round_.complete and round_.number > 0]
    shared = shared_departures(trained[-1].clients) if trained else {}
    return Recipe(
        data=_known(_data(info)),
        model=_known(_model(info)),
        partition=_known(_partition(info, partition)),
        train=_known({**info.plan.train.resolved().as_json(), **shared}),
        aggregate=_known(_aggregation(info, trained)),
        seeds=_known(_seeds(info)),
        departures=tuple(_departures(trained, shared)),
    )


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are set; 0 is a value."""
    return {k: v for k, v in values.items() if v is not None and v is not False and v != ()}


def _data(info: RunInfo) -> dict[str, Any]:
    described, origin = asdict(info.dataset), info.origin
    identity = origin.get("data")
    if isinstance(identity, Mapping):  # of a simulation
        identity = {key: value for key, value in identity.items() if key not in SEEDS}
    return {
        "dataset": described.pop("name"),
        "limit": identity.pop("limit", None) if isinstance(identity, dict) else None,
        "val_fraction": origin.get("val_fraction") or None,
        "test_split": origin.get("test_split"),
        **described,
        "content": identity or None,
    }


def _model(info: RunInfo) -> dict[str, Any]:
    described = asdict(info.model)
    start = {key: info.origin.get(key) for key in ("init_from", "pretrained")}
    return {"model": described.pop("name"), **described, **start}


def _partition(info: RunInfo, partition: PartitionFile | None) -> dict[str, Any]:
    parameters = partition.parameters if partition else {}
    scheme = partition.scheme if partition else None
    return {
        "centralised": len(info.clients) == 1,
        "scheme": scheme,
        **parameters,
        "clients": len(info.clients) or None,
    }


def _aggregation(info: RunInfo, trained: Sequence[RoundReport]) -> dict[str, Any]:
    """Return the rule of the latest round, and where earlier rounds had another."""
    plan = info.plan.aggregate
    chosen = {key: getattr(plan, key) for key in (*SAMPLING, *LIMITS)}
    ruled = [round_ for round_ in trained if round_.strategy]
    if not ruled:
        return {**asdict(plan), **chosen}
    last, numbers = ruled[-1].rule, defaultdict[str, list[int]](list)
    for round_ in ruled:
        numbers[str(round_.rule)].append(round_.number)
    numbers.pop(str(last))
    earlier = tuple(f"{rule} in {rounds_named(when)}" for rule, when in numbers.items())
    rule = {key: getattr(ruled[-1], key) for key in _RULE}
    return {**rule, **ruled[-1].options, **chosen, "other_rules": earlier}


def _seeds(info: RunInfo) -> dict[str, Any]:
    """Return the seeds; those of the data and of the partition only where they are others."""
    own = {key: info.origin.get(key, getattr(info, key, None)) for key in SEEDS[1:]}
    return {"seed": info.seed, **own}


def _departures(trained: Sequence[RoundReport], shared: Mapping[str, Any]) -> list[str]:
    """Say for each client where it left what all clients did in the latest round."""
    found = defaultdict[str, dict[str, list[int]]](lambda: defaultdict(list))
    took_part = defaultdict[str, list[int]](list)
    for round_ in trained:
        for client in round_.clients:
            took_part[client.client].append(round_.number)
            if text := _departure(client, shared):
                found[client.client][text].append(round_.number)
    return [
        f"client {client}: {text}{_when(numbers, took_part[client])}"
        for client, texts in found.items()
        for text, numbers in texts.items()
    ]


def _departure(client: ClientRound, shared: Mapping[str, Any]) -> str:
    own = client.departures
    keys = dict.fromkeys((*own, *shared))
    pairs = [(key, own.get(key, _AS_PLANNED), shared.get(key, _AS_PLANNED)) for key in keys]
    return ", ".join(
        f"{key.replace('_', ' ')} {'as planned' if mine is _AS_PLANNED else value_named(mine)}"
        for key, mine, usual in pairs
        if mine is _AS_PLANNED or usual is _AS_PLANNED or mine != usual
    )


def _when(numbers: Sequence[int], took_part: Sequence[int]) -> str:
    """Name the rounds, unless they are all in which the client took part."""
    return "" if len(numbers) == len(took_part) else f" ({rounds_named(numbers)})"
