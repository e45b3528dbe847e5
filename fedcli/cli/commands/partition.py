"""``fedcli partition``: cut a data set into clients."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from fedcli.cli.options.aggregation import AggregationOptions
from fedcli.cli.options.new_run import (
    ModelOptions,
    NewSeedOption,
    PlanOption,
    make_plan,
    make_start,
)
from fedcli.cli.options.partition import (
    CuttingOptions,
    DataSetOptions,
    make_scheme,
    make_source,
)
from fedcli.cli.options.shared import ForceOption, OutputOptions, RunOption
from fedcli.cli.options.training import TrainingOptions
from fedcli.cli.render.label_table import label_table
from fedcli.cli.render.output import Output, size_of
from fedcli.run import DEFAULT_RUN

if TYPE_CHECKING:
    from fedcli.steps.partition import Partition

_MOST_GROUPS = 10  # clients whose groups are named


def partition(
    run: RunOption = DEFAULT_RUN,
    list_schemes: Annotated[
        bool, typer.Option("--list", help="Print every scheme with its options and its source.")
    ] = False,
    data: DataSetOptions = DataSetOptions(),
    cutting: CuttingOptions = CuttingOptions(),
    model: ModelOptions = ModelOptions(),
    plan: PlanOption = None,
    training: TrainingOptions = TrainingOptions(),
    aggregation: AggregationOptions = AggregationOptions(),
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the label distribution, as .png, .svg or .pdf.", metavar="FILE"),
    ] = None,
    seed: NewSeedOption = 0,
    force: ForceOption = False,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Cut a data set into clients; write the run and the starting model (round 0)."""
    with Output("partition", printing) as output:
        if list_schemes:
            from fedcli.cli.render.choices import schemes, show

            show(schemes(), output)
            return
        from fedcli.steps.partition import partition as step

        source, scheme = make_source(data), make_scheme(cutting)
        start = make_start(model, make_plan(plan, training, aggregation), seed)
        if plot is not None:
            _check_plot(plot)
        result = step(run, source, scheme, start, force=force, progress=output)
        if plot is not None:
            _plot(result, plot)
        output.result(result, _render)


def _check_plot(path: Path) -> None:
    from fedcli.reporting.plots import check_picture_path

    check_picture_path(path)


def _plot(result: "Partition", path: Path) -> None:
    from fedcli.reporting.plots import label_distribution, save_figure

    save_figure(label_distribution(result.label_counts, result.classes), path)


def _render(result: "Partition") -> list[RenderableType]:
    examples = sum(sum(counts) for counts in result.label_counts.values())
    held_out = sum(sum(counts) for counts in result.validation_label_counts.values())
    own_tests = sum(sum(counts) for counts in result.client_test_label_counts.values())
    tests = sum(result.test_label_counts)
    parts = [
        f"{examples} to train",
        *([f"{held_out} held out"] if held_out else []),
        *([f"{tests} to test"] if tests else []),
        *([f"{own_tests} to test at the clients"] if own_tests else []),
    ]
    done = "already done: nothing changed" if result.already_done else "ready"
    return [
        f"{result.run}: {done}",
        f"{result.dataset}, cut by scheme {result.scheme}; model {result.model}",
        f"examples: {', '.join(parts)} ({size_of(result.shard_bytes)})",
        *([f"moved to reach --min-size: {result.repaired}"] if result.repaired else []),
        "",
        *label_table(result.label_counts, result.classes),
        "",
        *_groups(result.groups),
        _heterogeneity(result),
        f"next: {result.next}",
    ]


def _groups(groups: dict[str, list[str]]) -> list[str]:
    lines = [f"client {client}: {', '.join(names)}" for client, names in groups.items()]
    more = len(lines) - _MOST_GROUPS
    return [*lines[:_MOST_GROUPS], *([f"… and {more} more clients"] if more > 0 else [])]


def _heterogeneity(result: "Partition") -> str:
    figures = result.heterogeneity
    return (
        f"labels: Jensen-Shannon distance {figures.jensen_shannon_distance:.3f},"
        f" earth mover's {figures.earth_movers_distance:.3f};"
        f" sizes: Gini {figures.gini_of_sizes:.3f}"
    )
