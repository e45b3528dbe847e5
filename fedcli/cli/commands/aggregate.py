"""``fedcli aggregate``."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.lists import one_a_time
from fedcli.cli.options.sections import AggregationOptions
from fedcli.cli.options.shared import FORCE, KEY, NOISE_KEY, ROUND, RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.experiment.sections import TakingPart
from fedcli.options import NONE, Given, option_of
from fedcli.run import Run

_HIERARCHY = "Hierarchy"


@shown(
    "--strategy --exclude --wait --run", "fedcli aggregate", "fedcli aggregate --strategy median"
)
def aggregate(
    members: list[str] | None = typer.Argument(
        None,
        help="Whose updates to combine: client ids restrict, files made by --partial add. By"
        " default every client's.",
        metavar="MEMBER",
        show_default=False,
    ),
    run: Path = RUN,
    round_number: int | None = ROUND,
    list_rules: bool = typer.Option(
        False, "--list", help="Print every rule with its options and its paper."
    ),
    aggregation: AggregationOptions = NONE,
    taking_part: TakingPart = TakingPart(),
    wait: float | None = typer.Option(
        None,
        min=0,
        help="Wait this long for missing clients; continue as soon as all are there.",
        metavar="SECONDS",
    ),
    strict: bool = typer.Option(
        False,
        "--strict",
        help="Stop at a bad update, even if the others are enough to continue without it.",
    ),
    diagnostics: bool = typer.Option(
        True,
        help="Measure each update's norm, its cosine to the result and its distance to the median.",
    ),
    partial: bool = typer.Option(
        False,
        "--partial",
        help="Write a mergeable partial mean of these to FILE instead of a global model.",
        rich_help_panel=_HIERARCHY,
    ),
    output_file: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Where --partial writes.",
        rich_help_panel=_HIERARCHY,
        metavar="FILE",
    ),
    close: bool = typer.Option(
        False,
        "--close",
        help="Sign the list of the masked updates that are there, so that members can open their"
        " sum.",
    ),
    key: Path | None = KEY,
    noise_key: Path | None = NOISE_KEY,
    force: bool = FORCE,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Combine the open round's updates into the next global model."""
    with Output("aggregate", printing) as output:
        if list_rules:
            from fedcli.cli.render.choices import rules, show

            show(rules(), output)
            return
        if noise_key is not None and (close or partial):
            option = "--close" if close else "--partial"
            raise UsageError(f"--noise-key: has no meaning with {option}, which adds no noise")
        asked = _Asked(
            one_a_time(members or ()), round_number, aggregation, taking_part.exclude, force
        )
        if close:
            _close(Run.open(run), asked, key, output)
            return
        if (file := _partial_file(partial, output_file)) is not None:
            _check_only_adds_up(aggregation, taking_part.min_clients, wait, diagnostics, key)
            _add_up(Run.open(run), asked, file, output)
            return
        from fedcli.plan.aggregate import SAMPLING
        from fedcli.steps.aggregate import aggregate as step

        opened = Run.open(run)
        result = step(
            opened,
            **vars(asked),
            min_clients=taking_part.min_clients,
            wait=wait or 0,
            diagnostics=diagnostics,
            strict=strict,
            key=key,
            noise_key=noise_key,
            progress=output,
        )
        from fedcli.cli.render.aggregate import render
        from fedcli.cli.render.next import next_here

        sampling = {name: aggregation[name] for name in SAMPLING if name in aggregation}
        output.result(result, lambda result: render(result, opened, next_here(opened, sampling)))


@dataclass(frozen=True)
class _Asked:
    """What a global model and a partial mean are asked for alike."""

    members: Sequence[str]
    round_number: int | None
    options: Given
    exclude: Sequence[str]
    force: bool


def _close(run: Run, asked: _Asked, key: Path | None, output: Output) -> None:
    """Write the list of a masked round."""
    from fedcli.cli.render.unmask import render_closed
    from fedcli.steps.close import close_round

    if asked.members or asked.options or asked.force:
        raise UsageError("--close: takes no other option than --round, --exclude and --key")
    result = close_round(
        run, round_number=asked.round_number, exclude=asked.exclude, key=key, progress=output
    )
    output.result(result, lambda result: render_closed(result, run))


def _add_up(run: Run, asked: _Asked, file: Path, output: Output) -> None:
    """Write a partial mean to ``file``."""
    from fedcli.cli.render.aggregate import render_partial
    from fedcli.steps.partial import partial as step

    made = step(run, output=file, **vars(asked), progress=output)
    then = _use_of_partial(file, asked.round_number, asked.options)
    output.result(made, lambda made: render_partial(made, run.command(then)))


def _partial_file(partial: bool, file: Path | None) -> Path | None:
    """Return where a partial mean goes to; None where none is asked for."""
    if partial != (file is not None):
        raise UsageError("--partial and --output FILE: give both, or neither")
    if file is not None and file.suffix != ".safetensors":
        raise UsageError(f"--output: expected a name that ends in .safetensors, found {file}")
    return file


def _check_only_adds_up(
    aggregation: Given,
    min_clients: int | None,
    wait: float | None,
    diagnostics: bool,
    key: Path | None,
) -> None:
    """Refuse what goes with a global model only."""
    from fedcli.plan.aggregate import SERVER_OPTIONS

    for option, value in (("--min-clients", min_clients), ("--wait", wait)):
        if value is not None:
            raise UsageError(f"{option}: has no meaning with --partial, which waits for nobody")
    for name in aggregation:
        if name in SERVER_OPTIONS:
            raise UsageError(
                f"{option_of(name)}: has no meaning with --partial, which only adds"
                " up; it belongs to the aggregate that makes the global model"
            )
    if not diagnostics:
        raise UsageError("--no-diagnostics: has no meaning with --partial, which measures nothing")
    if key is not None:
        raise UsageError("--key: has no meaning with --partial, which signs nothing")


def _use_of_partial(file: Path, round_number: int | None, aggregation: Given) -> str:
    """Return how the partial mean becomes part of a global model, with what was typed for it."""
    typed = {
        "round": round_number,
        "strategy": aggregation.get("strategy"),
        "weighting": aggregation.get("weighting"),
    }
    words = [f"--{name} {value}" for name, value in typed.items() if value is not None]
    return " ".join(["aggregate", *words, shlex.quote(str(file))])
