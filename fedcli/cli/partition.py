"""``fedcli partition``: cut a data set into clients."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from fedcli.cli.aggregation_options import AggregationOptions
from fedcli.cli.label_table import label_table
from fedcli.cli.new_run_options import (
    ModelOptions,
    NewSeedOption,
    PlanOption,
    make_plan,
    make_start,
)
from fedcli.cli.options import ForceOption, OutputOptions, RunOption
from fedcli.cli.output import Output, megabytes
from fedcli.cli.training_options import TrainingOptions
from fedcli.errors import UsageError
from fedcli.run import DEFAULT_RUN

if TYPE_CHECKING:
    from fedcli.partitioning import Scheme
    from fedcli.steps.partition import Partition

_CUT = "Cutting"


def partition(
    run: RunOption = DEFAULT_RUN,
    dataset: Annotated[
        str,
        typer.Option(
            help="synthetic, imagefolder:PATH, npz:PATH, or a torchvision name such as cifar10.",
            metavar="SPEC",
        ),
    ] = "synthetic",
    data_dir: Annotated[
        Path, typer.Option(help="Where torchvision's data sets are.", metavar="DIR")
    ] = Path("data"),
    download: Annotated[
        bool, typer.Option("--download", help="Download a torchvision data set first.")
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Make pictures N×N. (default: the size of the first, its shorter side at most"
            " 224)",
            metavar="N",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Use N training examples only, each class in proportion; of the test set the"
            " same share.",
            metavar="N",
        ),
    ] = None,
    test_fraction: Annotated[
        float,
        typer.Option(help="Test share of data that has no test part.", metavar="F"),
    ] = 0.2,
    val_fraction: Annotated[
        float,
        typer.Option(help="Share of each client's examples to hold out.", metavar="F"),
    ] = 0.0,
    scheme: Annotated[
        str | None,
        typer.Option(
            help="iid, labels or dirichlet. (default: labels with --labels, dirichlet with --alpha"
            " or --min-size, else iid)",
            rich_help_panel=_CUT,
            metavar="NAME",
        ),
    ] = None,
    clients: Annotated[
        int | None,
        typer.Option(
            help="Number of clients. (default: 3, or the number of --labels)",
            rich_help_panel=_CUT,
            metavar="N",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="The classes of one client, such as 0,1 or cat,dog; once for each client. Implies"
            " --scheme labels.",
            rich_help_panel=_CUT,
            metavar="LIST",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="The smaller, the more skewed. Implies --scheme dirichlet. (default: 0.5)",
            rich_help_panel=_CUT,
            metavar="A",
        ),
    ] = None,
    min_size: Annotated[
        int | None,
        typer.Option(
            help="The least examples of a client. Implies --scheme dirichlet. (default: 1)",
            rich_help_panel=_CUT,
            metavar="N",
        ),
    ] = None,
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
    from fedcli.steps.partition import Source
    from fedcli.steps.partition import partition as step

    source = Source(dataset, data_dir, download, image_size, test_fraction, val_fraction, limit)
    start = make_start(model, make_plan(plan, training, aggregation), seed)
    cutting = make_scheme(scheme, clients, labels, alpha, min_size)
    if plot is not None:
        _check_plot(plot)
    with Output("partition", printing) as output:
        result = step(run, source, cutting, start, force=force, progress=output)
        if plot is not None:
            _plot(result, plot)
        output.result(result, _render)


def make_scheme(
    name: str | None,
    clients: int | None,
    labels: list[str] | None,
    alpha: float | None,
    min_size: int | None,
) -> "Scheme":
    """Build the scheme that the options ask for.

    Raises ``UsageError`` for an option that the scheme does not use.
    """
    from fedcli.partitioning import PARTITIONERS, Scheme
    from fedcli.plan import one_of

    implied = "labels" if labels else "iid" if alpha is min_size is None else "dirichlet"
    name = one_of("--scheme", name or implied, PARTITIONERS)
    given = {"labels": labels or None, "alpha": alpha, "min_size": min_size}
    for key, value in given.items():
        if value is not None and key not in PARTITIONERS[name].parameters:
            raise UsageError(f"--{key.replace('_', '-')}: scheme {name} does not use it")
    lists = tuple(tuple(part.strip() for part in text.split(",")) for text in labels or ())
    if name == "labels" and not lists:
        raise UsageError(
            "--scheme labels: say which classes each client has",
            hint="fedcli partition --labels 0,1 --labels 2,3 --labels 4,5",
        )
    number = clients if clients is not None else len(lists) or 3
    return Scheme(
        name,
        number,
        lists,
        0.5 if alpha is None else alpha,
        1 if min_size is None else min_size,
    )


def _check_plot(path: Path) -> None:
    from fedcli.plots import check_picture_path

    check_picture_path(path)


def _plot(result: "Partition", path: Path) -> None:
    from fedcli.plots import label_distribution, save_figure

    save_figure(label_distribution(result.label_counts, result.classes), path)


def _render(result: "Partition") -> list[RenderableType]:
    examples = sum(sum(counts) for counts in result.label_counts.values())
    held_out = sum(sum(counts) for counts in result.validation_label_counts.values())
    parts = [
        f"{examples} to train",
        *([f"{held_out} held out"] if held_out else []),
        f"{sum(result.test_label_counts)} to test",
    ]
    done = "already done: nothing changed" if result.already_done else "ready"
    return [
        f"{result.run}: {done}",
        f"{result.dataset}, cut by scheme {result.scheme}; model {result.model}",
        f"examples: {', '.join(parts)} ({megabytes(result.shard_bytes)})",
        "",
        *label_table(result.label_counts, result.classes),
        "",
        f"next: {result.next}",
    ]
