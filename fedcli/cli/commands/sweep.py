"""``fedcli sweep``."""

from pathlib import Path
from typing import Annotated

import typer

from fedcli.cli import streams
from fedcli.cli.manual import shown
from fedcli.cli.options.alternatives import Alternatives, alternatives
from fedcli.cli.options.groups import number_or_auto
from fedcli.cli.options.sections import PlaceOptions
from fedcli.cli.options.shared import NOISE_KEY, OutputOptions
from fedcli.cli.render.output import Output, plain
from fedcli.errors import ExitStatus
from fedcli.experiment.sections import SECTIONS
from fedcli.experiment.sweep import run_options
from fedcli.options import NONE
from fedcli.text import printable

Data = Annotated[Alternatives, alternatives(SECTIONS["data"], "Data")]
Cutting = Annotated[Alternatives, alternatives(SECTIONS["partition"], "Cutting")]
Model = Annotated[Alternatives, alternatives(SECTIONS["model"], "Model")]
Training = Annotated[Alternatives, alternatives(SECTIONS["train"], "Training")]
Aggregation = Annotated[Alternatives, alternatives(SECTIONS["aggregate"], "Aggregation")]
Masking = Annotated[Alternatives, alternatives(SECTIONS["secagg"], "Secure aggregation")]
Running = Annotated[Alternatives, alternatives(run_options, "Running")]


@shown(
    "--out --jobs --algorithm --alpha --seed --rounds",
    "fedcli sweep --algorithm fedavg,fedprox --alpha 0.1,1 --seed 0-2 --rounds 10",
)
def sweep(
    file: Path | None = typer.Argument(
        None, help="The experiment, as a TOML file.", metavar="FILE", show_default=False
    ),
    out: Path | None = typer.Option(
        None,
        "--out",
        help="Folder for the runs, one directory each [the file's name without .toml, or sweep]",
        metavar="DIR",
    ),
    jobs: str | None = typer.Option(
        None,
        "--jobs",
        "-j",
        help="Clients at a time, of all runs together; auto suits the cores [that of the"
        " file, else auto]",
        metavar="N|auto",
    ),
    noise_key: Path | None = NOISE_KEY,
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Print the commands, and execute none of them."
    ),
    print_array: bool = typer.Option(
        False, "--print-array", help="Print one line per run, for the tasks of a Slurm array."
    ),
    training: Training = NONE,
    aggregation: Aggregation = NONE,
    model: Model = NONE,
    data: Data = NONE,
    cutting: Cutting = NONE,
    masking: Masking = NONE,
    running: Running = NONE,
    place: PlaceOptions = NONE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Run every case of an experiment, several at a time, from where they stand."""
    from fedcli.cli.options.experiment import checked_sweep
    from fedcli.cli.render import sweep as view
    from fedcli.steps.sweep import survey
    from fedcli.steps.sweep import sweep as step

    typed = {
        "train": training,
        "aggregate": aggregation,
        "model": model,
        "data": data,
        "partition": cutting,
        "secagg": masking,
        "run": running,
    }
    asked = checked_sweep(file, out, typed, noise_key, place)
    at_a_time = asked.jobs if jobs is None else number_or_auto(SECTIONS["run"]()["jobs"], jobs)
    streams.stop_like_an_interrupt()  # which stops the steps, and keeps the rest
    with Output("sweep", printing) as output:
        if dry_run or print_array:
            lines = asked.array(at_a_time) if print_array else asked.commands()
            output.result({"lines": lines}, lambda _: [*lines])
            return
        output.draw(view.table(survey(asked)))
        result = step(asked, jobs=at_a_time, progress=output)
        error = view.failure(result) if result.failed else None
        values = plain(result) if error is None else {**plain(result), "error": error}
        output.result(values, lambda _: view.render(result))
    if error is not None:
        if not printing.json:
            streams.complain(f"error: {printable(error['message'])}")
            if error["hint"]:
                streams.complain(f"hint: {printable(error['hint'])}")
        raise typer.Exit(ExitStatus.FAILED)
