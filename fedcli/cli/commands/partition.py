"""``fedcli partition``: cut a data set into clients."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.building import check_nothing_cut, make_scheme, make_start
from fedcli.cli.options.plan_file import PlanFile
from fedcli.cli.options.sections import (
    AggregationOptions,
    DataOptions,
    MaskingOptions,
    ModelOptions,
    SchemeOptions,
    SeedOptions,
    TrainingOptions,
)
from fedcli.cli.options.shared import COMMITTED_KEY, FORCE, PLAN, RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.options import NONE
from fedcli.run import Run


@shown(
    "--dataset --clients --scheme --alpha --model --algorithm --epochs --lr --seed --run",
    "fedcli partition --clients 5 --scheme dirichlet --alpha 0.3",
    "fedcli partition --dataset imagefolder:photos --model resnet18",
)
def partition(
    run: Path = RUN,
    list_schemes: bool = typer.Option(
        False, "--list", help="Print every scheme with its options and its source."
    ),
    data: DataOptions = NONE,
    cutting: SchemeOptions = NONE,
    data_of: Path | None = typer.Option(
        None,
        "--data-of",
        help="Take the clients and examples of another run, made by partition, instead.",
        metavar="DIR",
    ),
    model: ModelOptions = NONE,
    plan: Path | None = PLAN,
    training: TrainingOptions = NONE,
    aggregation: AggregationOptions = NONE,
    secagg: MaskingOptions = NONE,
    plot: Path | None = typer.Option(
        None, help="Draw the label distribution, as .png, .svg or .pdf.", metavar="FILE"
    ),
    noise_key: Path | None = COMMITTED_KEY,
    seed: SeedOptions = NONE,
    force: bool = FORCE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Cut a data set into clients; write the run and the starting model (round 0)."""
    with Output("partition", printing) as output:
        if list_schemes:
            from fedcli.cli.render.choices import schemes, show

            show(schemes(), output)
            return
        from fedcli.cli.render.partition import render
        from fedcli.reporting.plots import check_picture_path, label_distribution, save_figure
        from fedcli.run.next_command import run_command
        from fedcli.setup.data_source import DataSource
        from fedcli.steps.partition import partition as step
        from fedcli.steps.partition import partition_like

        file = PlanFile.read(plan)
        source, scheme, start = file.build(
            lambda file: DataSource.of(file.data(data)),
            lambda file: make_scheme(file.cutting(cutting)),
            lambda file: make_start(
                file.model(model),
                file.plan(training, aggregation),
                file.seed(seed),
                file.masking(secagg),
            ),
        )
        if plot is not None:
            check_picture_path(plot)
        left_out = () if data_of is None else ("data", "partition")
        for line in file.unused(left_out, "--data-of takes those of another run"):
            output.say(line)
        how: dict[str, Any] = {"noise_key": noise_key, "force": force, "progress": output}
        if data_of is None:
            result = step(run, source, scheme, start, **how)
        else:
            check_nothing_cut(data, cutting)
            result = partition_like(run, Run.open(data_of), start, **how)
        if plot is not None:
            save_figure(label_distribution(result.label_counts, result.classes), plot)
        if "rounds" in file.of("run"):
            result = replace(result, all_rounds=run_command(Run.open(run), plan))
        output.result(result, render)
