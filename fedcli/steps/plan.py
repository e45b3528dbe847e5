"""Templates of an experiment's file, and its schema."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedcli.errors import UsageError
from fedcli.experiment.schema import json_schema
from fedcli.experiment.sections import SECTIONS
from fedcli.experiment.template import template
from fedcli.experiment.values import typed_value
from fedcli.formats.partition import PartitionFile
from fedcli.options import Given
from fedcli.plan import Plan
from fedcli.plan.forecast import USUAL_SIZES, ForecastOptions, PrivacyForecast, forecast
from fedcli.run import Run
from fedcli.run.inputs import FILE, PLACE, has_data, settings_of
from fedcli.text import printable


@dataclass(frozen=True)
class PlanTemplate:
    """The lines of a TOML file."""

    lines: tuple[str, ...]


def plan_schema() -> dict[str, Any]:
    """Return the JSON schema, draft 7, of an experiment's file."""
    return json_schema()


def privacy_forecast(
    plan: Plan, about: ForecastOptions, delta: float | None = None, run: Run | None = None
) -> PrivacyForecast:
    """Return what a plan will spend of privacy, before a run.

    Clients have the sizes that are asked for, or those of the simulation ``run``, or the usual
    ones. Raises what ``forecast`` does, and ``UsageError`` for a δ outside (0, 1).
    """
    sizes = about.examples or (() if run is None else _sizes(run)) or USUAL_SIZES
    return forecast(plan, sizes, about.rounds, delta)


def _sizes(run: Run) -> tuple[int, ...]:
    partition = PartitionFile.try_read(run.partition_file)
    return () if partition is None else tuple(map(sum, partition.label_counts.values()))


def plan_template(run: Run | None = None) -> PlanTemplate:
    """Return a commented file with every option at its default, or as ``run`` was made.

    A plan file of a run makes the same run again, once the data and weights that were files are
    named. Raises what ``Run.latest_round`` does.
    """
    if run is None:
        return PlanTemplate(tuple(template()))
    values, left_out = _stated(_settings(run))
    return PlanTemplate(tuple(template(values, tuple(_remarks(run, left_out)))))


def _settings(run: Run) -> dict[str, dict[str, Any]]:
    partition, rounds = PartitionFile.try_read(run.partition_file), run.latest_round().number
    found = settings_of(run.info, {} if partition is None else partition.data_options)
    if rounds:
        found["run"]["rounds"] = rounds
    if "steps" in found["train"]:
        found["train"]["epochs"] = None  # one of them alone counts
    return found


def _stated(settings: Mapping[str, Given]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the values that a file can state, and the names of the others."""
    values: dict[str, dict[str, Any]] = {name: {} for name in settings}
    left_out = []
    for section, table in settings.items():
        known = SECTIONS[section]()
        for key, value in table.items():
            try:
                typed = value if value is None else typed_value(known[key], value, key)
                values[section][key] = typed
            except (KeyError, UsageError):  # of another version, or of nobody's
                left_out.append(f"[{section}] {key}")
    return values, left_out


def _remarks(run: Run, left_out: list[str]) -> Iterator[str]:
    info = run.info
    yield printable(f"As run {info.id[:12]} was made, in {run.root.resolve().name}.")
    unknown = settings_of(info)
    if str(unknown["data"].get("dataset")).endswith(f":{PLACE}"):
        yield f"{PLACE} stands for where the data was, which a run knows by content alone."
    if FILE in (unknown["model"].get("init_from"), unknown["data"].get("labels_csv")):
        yield f"{FILE} stands for a file, which a run knows by content alone."
    if not has_data(info):
        yield "It has no data: give fedcli init its --classes, and --clients or --member, again."
    if left_out:
        yield printable(f"Not options of this version: {', '.join(left_out)}.")
