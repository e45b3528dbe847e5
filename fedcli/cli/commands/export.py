"""``fedcli export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from fedcli.cli.options.shared import ForceOption, OutputOptions, RunOption
from fedcli.cli.render.output import Output, size_of
from fedcli.errors import UsageError
from fedcli.run import DEFAULT_RUN, Run

if TYPE_CHECKING:
    from fedcli.steps.export import ExportResult


def export(
    run: RunOption = DEFAULT_RUN,
    round_: Annotated[
        str, typer.Option("--round", help="The round: a number, or latest.", metavar="N")
    ] = "latest",
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="safetensors, torch (a state_dict), or onnx (a graph).",
            metavar="NAME",
        ),
    ] = "safetensors",
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write; its card is beside it. (default: named after the run and the"
            " round, in the current directory)",
            metavar="FILE",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="FEDCLI_MODEL",
            help="package.module:factory, for onnx of a model of your own; it must name the same.",
            metavar="NAME",
        ),
    ] = None,
    force: ForceOption = False,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Write a global model for other programs, with a card that says where it is from."""
    from fedcli.steps.export import export as step

    opened = Run.open(run)
    with Output("export", printing) as output:
        result = step(
            opened,
            round_number=_number(round_),
            format=format,
            output=file,
            own_model=model,
            force=force,
        )
        output.result(result, _render)


def _number(text: str) -> int | None:
    if text == "latest":
        return None
    if not text.isdecimal():
        raise UsageError(f"--round: expected a number or latest, found {text!r}")
    return int(text)


def _render(result: "ExportResult") -> list[RenderableType]:
    what = f"global model of round {result.round}"
    if result.merged:
        what += ", adapters merged"
    done = "already exported, nothing changed" if result.already_done else f"exported the {what}"
    return [
        done,
        f"{result.path}  {size_of(result.bytes)}  SHA-256 {result.sha256}",
        f"{result.card}",
    ]
