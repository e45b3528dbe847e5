"""``fedcli verify``."""

import sys
from typing import Annotated

import typer

from fedcli.cli.options.shared import OutputOptions, RunOption
from fedcli.cli.render.output import Output, plain
from fedcli.errors import ExitStatus
from fedcli.run import DEFAULT_RUN
from fedcli.text import printable


def verify(
    run: RunOption = DEFAULT_RUN,
    round_: Annotated[
        int | None,
        typer.Option(
            "--round",
            min=0,
            help="Check only the files of this round, and the model that it started from.",
            metavar="N",
        ),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="Replay aggregations and training from what the files record, and compare"
            " the bytes.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="FEDCLI_MODEL",
            help="--replay: package.module:factory, for a run with a model of your own; it must be"
            " the same name.",
            metavar="NAME",
        ),
    ] = None,
    reduce: Annotated[
        str | None,
        typer.Option(
            help="--replay: package.module:function, for rounds that used it; it must be the same"
            " name.",
            metavar="NAME",
        ),
    ] = None,
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Check every file of a run by its SHA-256 and its shape, and report what was changed."""
    from fedcli.cli.render.verify import failure, render
    from fedcli.steps.verify import verify as step
    from fedcli.verification.replay_sandbox import Own

    with Output("verify", printing) as output:
        result = step(
            run,
            round_number=round_,
            replay=Own(model, reduce) if replay else None,
            progress=output,
        )
        error = None if result.sound else failure(result)
        values = plain(result) if error is None else {**plain(result), "error": error}
        output.result(values, lambda _: render(result))
    if error is not None:
        if not printing.json:
            print(f"error: {printable(error['message'])}", file=sys.stderr)
        raise typer.Exit(ExitStatus.BAD_INPUT)
