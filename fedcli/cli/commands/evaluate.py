"""``fedcli evaluate``."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from fedcli.cli.options.groups import comma_list
from fedcli.cli.options.sections import MachineOptions
from fedcli.cli.options.shared import (
    ForceOption,
    OutputOptions,
    OwnModelOption,
    RunOption,
)
from fedcli.cli.render.output import Output, figures_table
from fedcli.errors import UsageError
from fedcli.options import NONE
from fedcli.reporting.words import model_named
from fedcli.run import DEFAULT_RUN, Run

if TYPE_CHECKING:
    from fedcli.steps.evaluate import EvaluateResult, Rounds


def evaluate(
    run: RunOption = DEFAULT_RUN,
    round_: Annotated[
        str, typer.Option("--round", help="The round: a number, latest, or all.", metavar="N")
    ] = "latest",
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            help="Score these clients' updates: what each would have alone.",
            metavar="IDS",
        ),
    ] = None,
    personal: Annotated[
        bool,
        typer.Option(
            "--personal",
            help="Score personal models, of all clients or of --id, each on its client's data.",
        ),
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Where the clients' state is. (default: in the run)",
            metavar="DIR",
        ),
    ] = None,
    clients: Annotated[
        bool,
        typer.Option(
            "--clients", help="Score on each client's own test data, else its validation data."
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Score on another folder of pictures or npz file.", metavar="PATH"
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", help="Score on the examples of these classes only.", metavar="NAMES"
        ),
    ] = None,
    machine: MachineOptions = NONE,
    own_model: OwnModelOption = None,
    force: ForceOption = False,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Score a global model, clients' updates, or their personal models, on test data."""
    from fedcli.steps.evaluate import evaluate as step

    opened = Run.open(run)
    with Output("evaluate", printing) as output:
        result = step(
            opened,
            rounds=_parse_round(round_),
            clients=ids or (),
            personal=personal,
            on_clients=clients,
            data=data,
            classes=None if classes is None else comma_list(classes),
            state=state,
            **machine,
            own_model=own_model,
            force=force,
            progress=output,
        )
        output.result(result, lambda result: _render(result, opened.command("report")))


def _parse_round(text: str) -> "Rounds":
    if text == "latest":
        return "latest"
    if text == "all":
        return "all"
    if text.isdecimal():
        return int(text)
    raise UsageError(f"--round: expected a number, latest or all, found {text!r}")


def _render(result: "EvaluateResult", then: str) -> list[RenderableType]:
    parts: list[RenderableType] = []
    # A table of several models for each of several rounds would be too wide.
    by_round = [list(group) for _, group in groupby(result.evaluations, itemgetter("round"))]
    if max(map(len, by_round)) == 1:
        by_round = [list(result.evaluations)]
    for entries in by_round:
        parts += _table(entries)
    if len(result.evaluations) == 1:
        parts.append(_per_class(result.evaluations[0]))
    if not result.computed:
        parts.append("These scores were there already; --force computes them again.")
    return [*parts, f"next: {then}"]


def _table(entries: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """What is the same for all of the entries is said once, above the table."""
    facts = {
        "round": [f"round {entry['round']}" for entry in entries],
        "model": [_model(entry) for entry in entries],
        "client": [str(entry["client"] or "") for entry in entries],
        "data": [_data(entry) for entry in entries],
    }
    same = {name for name, values in facts.items() if len(set(values)) == 1}
    if "client" in same:  # it is part of the model's name
        del facts["client"]
        facts["model"] = [model_named(entry["model"], entry["client"]) for entry in entries]
    differing = [name for name in facts if name not in same]
    with_auc = any(entry["auc"] is not None for entry in entries)
    figures = ["examples", "loss", "acc. (%)", "bal. (%)", "F1", *["AUC"] * with_auc]
    table = figures_table(differing, figures)
    for number, entry in enumerate(entries):
        table.add_row(
            *[facts[name][number] for name in differing],
            str(entry["examples"]),
            f"{entry['loss']:.4f}",
            f"{100 * entry['accuracy']:.1f}",
            f"{100 * entry['balanced_accuracy']:.1f}",
            f"{entry['macro_f1']:.3f}",
            *[f"{entry['auc']:.3f}" if entry["auc"] is not None else ""] * with_auc,
        )
    common = ", ".join(values[0] for name, values in facts.items() if name in same)
    return [*[common] * bool(common), table]


def _model(entry: Mapping[str, Any]) -> str:
    return "update" if entry["model"] == "update" else f"{entry['model']} model"


def _data(entry: Mapping[str, Any]) -> str:
    name = str(entry["data"])
    if entry["data_client"] not in (None, entry["client"]):
        name = f"{name} of client {entry['data_client']}"
    return f"{name}, only {', '.join(entry['classes'])}" if entry["classes"] else name


def _per_class(entry: Mapping[str, Any]) -> Table:
    table = figures_table(["class"], ["examples", "acc. (%)"])
    table.add_column("", width=20)
    table.add_column("most taken for")
    for number, row in enumerate(entry["per_class"]):
        if row["examples"]:
            wrong = list(entry["confusion"][number])
            wrong[number] = 0
            other = entry["per_class"][wrong.index(max(wrong))]["class"] if any(wrong) else ""
            share = f"{other} ({max(wrong) / row['examples']:.0%})" if other else ""
            bar = "█" * round(20 * row["accuracy"])
            accuracy = f"{100 * row['accuracy']:.1f}"
            table.add_row(row["class"], str(row["examples"]), accuracy, bar, share)
    return table
