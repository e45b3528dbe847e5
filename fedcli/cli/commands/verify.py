"""``fedcli verify``."""

from pathlib import Path

import typer

from fedcli.cli.options.shared import RUN, OutputOptions
from fedcli.cli.render.output import Output, plain
from fedcli.cli.streams import complain
from fedcli.errors import ExitStatus
from fedcli.text import printable


def verify(
    run: Path = RUN,
    round_: int | None = typer.Option(
        None,
        "--round",
        min=0,
        help="Check only the files of this round, and the model that it started from.",
        metavar="N",
    ),
    replay: bool = typer.Option(
        False,
        "--replay",
        help="Replay aggregations and training from what the files record, and compare the bytes.",
    ),
    model: str | None = typer.Option(
        None,
        envvar="FEDCLI_MODEL",
        help="--replay: package.module:factory, for a run with a model of your own; it must be"
        " the same name.",
        metavar="NAME",
    ),
    reduce: str | None = typer.Option(
        None,
        help="--replay: package.module:function, for rounds that used it; it must be the same"
        " name.",
        metavar="NAME",
    ),
    whole: bool | None = typer.Option(
        None,
        "--whole/--no-whole",
        help="Require all files that a coordinator needs. (default: unless this is a client's copy,"
        " with files of one client at most)",
    ),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Check every file of a run by its SHA-256 and its shape, and report what was changed."""
    from fedcli.cli.render.verify import failure, render
    from fedcli.steps.verify import verify as step
    from fedcli.verification.replay_sandbox import UserCode

    with Output("verify", printing) as output:
        result = step(
            run,
            round_number=round_,
            replay=UserCode(model, reduce) if replay else None,
            whole=whole,
            progress=output,
        )
        error = None if result.sound else failure(result)
        values = plain(result) if error is None else {**plain(result), "error": error}
        output.result(values, lambda _: render(result))
    if error is not None:
        if not printing.json:
            complain(f"error: {printable(error['message'])}")
        raise typer.Exit(ExitStatus.BAD_INPUT)
