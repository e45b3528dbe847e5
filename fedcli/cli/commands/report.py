"""``fedcli report``: tables, plots and files from one run or several."""

from pathlib import Path
from typing import Annotated

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.lists import comma_list, one_a_time
from fedcli.cli.options.shared import RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.options import Option
from fedcli.plan.stopping import SCORES
from fedcli.run import Run

_STDOUT = Path("-")
_FILES = "Files"
_TRACKERS = "Trackers"


@shown(
    "--run --metric --html --markdown --csv",
    "fedcli report",
    "fedcli report run-a run-b --html report.html",
)
def report(
    context: typer.Context,
    runs: list[str] | None = typer.Argument(
        None, help="Run directories to put side by side.", metavar="RUN", show_default=False
    ),
    run: Path = RUN,
    label: list[str] | None = typer.Option(
        None, "--label", help="What to call a run; once for each, in order.", metavar="NAME"
    ),
    metric: Annotated[
        str,
        Option(f"What runs are judged by: `{'`, `'.join(SCORES)}`.", "NAME", names=lambda: SCORES),
    ] = "accuracy",
    target: float | None = typer.Option(
        None,
        help="Say how many rounds, bytes and seconds each run needed to reach this value of"
        " --metric, such as 0.8.",
        metavar="VALUE",
    ),
    group_by: str | None = typer.Option(
        None,
        help="Which options set methods apart, such as algorithm,alpha; run: each run by itself"
        " [all but the seeds]",
        metavar="KEYS",
    ),
    details: bool = typer.Option(
        False,
        "--details",
        help="Show the tables of each run also where many are compared, or repetitions.",
    ),
    html: Path | None = typer.Option(
        None,
        "--html",
        help="Write one self-contained page with charts that needs no network.",
        metavar="FILE",
        rich_help_panel=_FILES,
    ),
    markdown: Path | None = typer.Option(
        None,
        "--markdown",
        help="Write Markdown; - is standard output.",
        metavar="FILE",
        rich_help_panel=_FILES,
    ),
    latex: Path | None = typer.Option(
        None,
        "--latex",
        help="Write the tables for LaTeX, with booktabs; - is standard output.",
        metavar="FILE",
        rich_help_panel=_FILES,
    ),
    csv: Path | None = typer.Option(
        None,
        "--csv",
        help="Write all values as CSV, one per row; - is standard output.",
        metavar="FILE",
        rich_help_panel=_FILES,
    ),
    parquet: Path | None = typer.Option(
        None,
        "--parquet",
        help="Write the table of --csv as a Parquet file. Needs pyarrow.",
        metavar="FILE",
        rich_help_panel=_FILES,
    ),
    figures: Path | None = typer.Option(
        None,
        "--figures",
        help="Write each figure of the page as a file for a paper. Needs matplotlib.",
        metavar="DIR",
        rich_help_panel=_FILES,
    ),
    figure_format: Annotated[
        str | None,
        Option(
            "Of `--figures`: `pdf`, `svg` or `png`.",
            "NAME",
            _FILES,
            choices=("pdf", "svg", "png"),
            word="--format",
            unset="`pdf`",
        ),
    ] = None,
    figure_width: Annotated[
        str | None,
        Option(
            "Of `--figures`, in columns of a paper: `one` (3.4 inches) or `two` (7 inches).",
            "NAME",
            _FILES,
            choices=("one", "two"),
            word="--width",
            unset="`one`",
        ),
    ] = None,
    tensorboard: Path | None = typer.Option(
        None,
        "--tensorboard",
        help="Write each run as event files for TensorBoard. Needs tensorboard.",
        metavar="DIR",
        rich_help_panel=_TRACKERS,
    ),
    mlflow: str | None = typer.Option(
        None,
        "--mlflow",
        help="Write each run to MLflow: sqlite:///mlflow.db, or a server. Needs mlflow.",
        metavar="URI",
        rich_help_panel=_TRACKERS,
    ),
    wandb_offline: Path | None = typer.Option(
        None,
        "--wandb-offline",
        help="Write each run for Weights & Biases, to be sent by wandb sync. Needs wandb.",
        metavar="DIR",
        rich_help_panel=_TRACKERS,
    ),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Show accuracy, communication and time of one run, or of several side by side.

    It reports what a run directory can support, and says what is missing.
    """
    from fedcli.cli.render.report import show
    from fedcli.steps.report import report as step

    source = context.get_parameter_source("run")
    if runs and source is not None and source.name == "COMMANDLINE":
        raise UsageError("--run: give the runs by name or with --run, not both")
    texts = {"markdown": markdown, "latex": latex, "csv": csv}
    to_stdout = [name for name, file in texts.items() if file == _STDOUT]
    if len(to_stdout) + printing.json > 1:
        one = "--json, --markdown -, --latex - and --csv -"
        raise UsageError(f"standard output takes one of {one}")
    if parquet == _STDOUT:
        raise UsageError("--parquet: expected the name of a file, found -")
    for option, value in (("--format", figure_format), ("--width", figure_width)):
        if value is not None and figures is None:
            raise UsageError(f"{option}: has no meaning without --figures, which draws files")
    if figures == _STDOUT:
        raise UsageError("--figures: expected the name of a directory, found -")
    with Output("report", printing) as output:
        result = step(
            [Run.open(Path(path)) for path in one_a_time(runs or [str(run)])],
            labels=one_a_time(label or ()),
            metric=metric,
            target=target,
            group_by=comma_list(group_by or ""),
            details=details,
            html=html,
            markdown=None if markdown == _STDOUT else markdown,
            latex=None if latex == _STDOUT else latex,
            csv=None if csv == _STDOUT else csv,
            parquet=parquet,
            figures=figures,
            figure_format=figure_format or "pdf",
            figure_width=figure_width or "one",
            tensorboard=tensorboard,
            mlflow=mlflow,
            wandb_offline=wandb_offline,
            progress=output,
        )
        show(result, to_stdout[0] if to_stdout else None, output, details=details)
