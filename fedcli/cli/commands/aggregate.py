"""``fedcli aggregate``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedcli.cli.options.sections import AggregationOptions
from fedcli.cli.options.shared import (
    ExcludeOption,
    ForceOption,
    KeyOption,
    MinClientsOption,
    OutputOptions,
    RoundOption,
    RunOption,
)
from fedcli.cli.render.aggregate import render, render_partial
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError
from fedcli.options import NONE, Given, option_of
from fedcli.run import DEFAULT_RUN, Run

_HIERARCHY = "Hierarchy"


def aggregate(
    members: Annotated[
        list[str] | None,
        typer.Argument(
            help="Whose updates: ids of clients, and only theirs; files that --partial made count"
            " beside the updates. By default every client's.",
            metavar="MEMBER",
            show_default=False,
        ),
    ] = None,
    run: RunOption = DEFAULT_RUN,
    round_number: RoundOption = None,
    list_rules: Annotated[
        bool, typer.Option("--list", help="Print every rule with its options and its paper.")
    ] = False,
    aggregation: AggregationOptions = NONE,
    min_clients: MinClientsOption = None,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Wait this long for the clients that are missing; go on as soon as all are there.",
            metavar="SECONDS",
        ),
    ] = None,
    exclude: ExcludeOption = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop at a bad update, also where the others are enough to go on without it.",
        ),
    ] = False,
    diagnostics: Annotated[
        bool,
        typer.Option(
            help="Measure each update's norm, its cosine to the result, and its distance to the"
            " median."
        ),
    ] = True,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Write a mergeable partial mean of these to FILE instead of a global model.",
            rich_help_panel=_HIERARCHY,
        ),
    ] = False,
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where --partial writes to.",
            rich_help_panel=_HIERARCHY,
            metavar="FILE",
        ),
    ] = None,
    key: KeyOption = None,
    force: ForceOption = False,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Combine the open round's updates into the next global model."""
    with Output("aggregate", printing) as output:
        if list_rules:
            from fedcli.cli.render.choices import rules, show

            show(rules(), output)
            return
        _check_partial(partial, output_file)
        if partial:
            _check_only_adds_up(aggregation, min_clients, wait, diagnostics)
            if key is not None:
                raise UsageError("--key: has no meaning with --partial, which signs nothing")
        opened = Run.open(run)
        if output_file is not None:
            from fedcli.steps.partial import partial as partial_step

            made = partial_step(
                opened,
                members or (),
                output_file,
                round_number=round_number,
                options=aggregation,
                exclude=exclude or (),
                force=force,
                progress=output,
            )
            then = _use_of_partial(output_file, round_number, aggregation)
            output.result(made, lambda made: render_partial(made, opened.command(then)))
            return
        from fedcli.run.next_command import evaluate_command
        from fedcli.steps.aggregate import aggregate as step

        result = step(
            opened,
            round_number=round_number,
            options=aggregation,
            members=members or (),
            min_clients=min_clients,
            wait=wait or 0,
            exclude=exclude or (),
            diagnostics=diagnostics,
            strict=strict,
            key=key,
            force=force,
            progress=output,
        )
        output.result(result, lambda result: render(result, evaluate_command(opened)))


def _check_partial(partial: bool, file: Path | None) -> None:
    if partial != (file is not None):
        raise UsageError("--partial and --output FILE: give both, or neither")
    if file is not None and file.suffix != ".safetensors":
        raise UsageError(f"--output: expected a name that ends in .safetensors, found {file}")


def _check_only_adds_up(
    aggregation: Given,
    min_clients: int | None,
    wait: float | None,
    diagnostics: bool,
) -> None:
    for option, value in (("--min-clients", min_clients), ("--wait", wait)):
        if value is not None:
            raise UsageError(f"{option}: has no meaning with --partial, which waits for nobody")
    from fedcli.plan.aggregate import SERVER_OPTIONS

    for name in aggregation:
        if name in SERVER_OPTIONS:
            raise UsageError(
                f"{option_of(name)}: has no meaning with --partial, which only adds"
                " up; it belongs to the aggregate that makes the global model"
            )
    if not diagnostics:
        raise UsageError("--no-diagnostics: has no meaning with --partial, which measures nothing")


def _use_of_partial(file: Path, round_number: int | None, aggregation: Given) -> str:
    """Return how the partial mean becomes part of a global model, with what was typed for it."""
    typed = {
        "round": round_number,
        "strategy": aggregation.get("strategy"),
        "weighting": aggregation.get("weighting"),
    }
    words = [f"--{name} {value}" for name, value in typed.items() if value is not None]
    return " ".join(["aggregate", *words, shlex.quote(str(file))])
