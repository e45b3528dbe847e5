"""``fedcli export``."""

from pathlib import Path
from typing import Annotated

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.parsing import parse_round
from fedcli.cli.options.shared import FORCE, RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.options import Option
from fedcli.plan.stopping import SCORES
from fedcli.run import Run


@shown("--format --round --output --run", "fedcli export --format onnx --round best")
def export(
    run: Path = RUN,
    round_: Annotated[
        str,
        Option(
            "The round: a number, `latest`, or `best`.",
            "N",
            word="--round",
            names=lambda: ("latest", "best"),
        ),
    ] = "latest",
    metric: Annotated[
        str | None,
        Option(
            "The score that `--round best` goes by, as in report.",
            "NAME",
            names=lambda: SCORES,
            unset="`accuracy`",
        ),
    ] = None,
    format: Annotated[
        str,
        Option(
            "`safetensors`, `torch` (a state_dict), or `onnx` (a graph).",
            "NAME",
            choices=("safetensors", "torch", "onnx"),
        ),
    ] = "safetensors",
    file: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="The file to write; its card goes beside it [named after the run and the"
        " round, in the current directory]",
        metavar="FILE",
    ),
    model: str | None = typer.Option(
        None,
        envvar="FEDCLI_MODEL",
        help="package.module:factory, for onnx of a model of your own; the run's name for it.",
        metavar="NAME",
    ),
    force: bool = FORCE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Write a global model for other programs, with a card that says where it comes from."""
    from fedcli.cli.render.export import render
    from fedcli.steps.export import export as step

    opened = Run.open(run)
    with Output("export", printing) as output:
        result = step(
            opened,
            round_number=parse_round(round_),
            metric=metric,
            format=format,
            output=file,
            own_model=model,
            force=force,
        )
        output.result(result, render)
