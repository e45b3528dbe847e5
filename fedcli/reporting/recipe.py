"""How a run was made, from its ``run.json``, its partition and its rounds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fedcli.formats.manifest import Manifest
from fedcli.formats.partition import PartitionFile
from fedcli.formats.telemetry import Telemetry
from fedcli.plan.aggregate import DOWNLINK, LIMITS, SAMPLING
from fedcli.plan.client_level import settled_options
from fedcli.reporting.command_lines import command_lines
from fedcli.reporting.run_report import ClientRound, Recipe, RoundReport
from fedcli.reporting.training import shared_departures, value_named
from fedcli.reporting.words import counted, rounds_named
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.run.sampling import sample_size

SEEDS = ("seed", "data_seed", "partition_seed")
_DRAWN = (*SEEDS, "split_seed")
_OF_DATA = ("limit", "test_fraction", "layout", "version")
_RULE = ("strategy", "reduce", "weighting", "server_optimizer")
_AS_PLANNED = object()


class Machines:
    """The programs and devices that a run was trained and aggregated with, as its files say."""

    def __init__(self) -> None:
        self._versions = defaultdict[str, dict[str, None]](dict)
        self._hardware: dict[str, None] = {}
        self._processors: set[str | None] = set()
        self._servers: dict[str, None] = {}

    def note(self, telemetry: Telemetry) -> None:
        """Take down what one update was trained with."""
        for name, version in telemetry.versions.items():
            self._versions[name][version] = None
        self._processors.add(telemetry.processor)
        device, threads = telemetry.device, telemetry.threads
        if device is not None:
            model = f" ({telemetry.processor})" if telemetry.processor else ""
            own = "" if threads is None else f", {counted(threads, 'thread')}"
            self._hardware[f"{device}{model}{own}"] = None

    def note_aggregation(self, manifest: Manifest) -> None:
        """Take down what one round was aggregated with, where that is another machine."""
        for name, version in manifest.versions.items():
            self._versions[name][version] = None
        if manifest.processor:
            self._servers[manifest.processor] = None

    @property
    def versions(self) -> dict[str, tuple[str, ...]]:
        """The versions of each program, in the order in which they came."""
        return {name: tuple(found) for name, found in self._versions.items()}

    @property
    def hardware(self) -> tuple[str, ...]:
        """The devices in words, such as ``cpu (AMD EPYC), 1 thread``.

        A processor that only aggregated stands last.
        """
        servers = [one for one in self._servers if one not in self._processors]
        return (*self._hardware, *(f"aggregated on {one}" for one in servers))


def recipe_of(
    run: Run, partition: PartitionFile | None, rounds: Sequence[RoundReport], machines: Machines
) -> Recipe:
    """Return the options that made a run: those of its plan, and what its rounds did instead."""
    info = run.info
    trained = [round_ for round_ in rounds if round_.complete and round_.number > 0]
    shared = shared_departures(trained[-1].clients) if trained else {}
    evaluated = any(round_.scores for round_ in rounds)
    last = trained[-1] if trained else None
    return Recipe(
        versions=machines.versions,
        hardware=machines.hardware,
        commands=command_lines(
            info,
            run.root.resolve().name,
            shared,
            last,
            data_options=partition.data_options if partition else {},
            evaluated=evaluated,
        ),
        data=_known(_data(info)),
        model=_known(_model(info)),
        partition=_known(_partition(info, partition)),
        train=_known(_training(info, shared)),
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
    identity = dict(identity) if isinstance(identity, Mapping) else {}
    content = {key: v for key, v in identity.items() if key not in (*_OF_DATA, *_DRAWN)}
    return {
        "dataset": described.pop("name"),
        **{key: identity.get(key) for key in _OF_DATA[:3]},
        "val_fraction": origin.get("val_fraction") or None,
        "test_split": origin.get("test_split"),
        **described,
        "content": content or None,
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
    chosen = {key: getattr(plan, key) for key in (*SAMPLING, *LIMITS, *DOWNLINK)}
    chosen |= settled_options(plan, sample_size(plan, len(info.clients)))
    ruled = [round_ for round_ in trained if round_.strategy]
    if not ruled:
        return {**asdict(plan), **chosen}
    last, numbers = ruled[-1].rule, defaultdict[str, list[int]](list)
    for round_ in ruled:
        numbers[str(round_.rule)].append(round_.number)
    numbers.pop(str(last))
    earlier = tuple(f"{rule} in {rounds_named(when)}" for rule, when in numbers.items())
    rule = {key: getattr(ruled[-1], key) for key in _RULE}
    chosen |= ruled[-1].client_level
    return {**rule, **ruled[-1].options, **chosen, "other_rules": earlier}


def _training(info: RunInfo, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of training, first the algorithm and what belongs to it."""
    plan = info.plan.train.resolved()
    own = {"algorithm": plan.algorithm, **plan.algorithm_options}
    return {**own, **plan.as_json(), **shared}


def _seeds(info: RunInfo) -> dict[str, Any]:
    """Return the seeds; those of the data and of the partition only where they are others."""
    own = {key: info.origin.get(key) for key in SEEDS[1:]}
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
