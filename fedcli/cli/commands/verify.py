"""``fedcli verify``."""

from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.shared import RUN, OutputOptions
from fedcli.cli.render.output import Output, plain
from fedcli.cli.streams import complain
from fedcli.errors import ExitStatus, UsageError
from fedcli.text import printable


@shown("--replay --round --run", "fedcli verify --replay")
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
    noise_key: Path | None = typer.Option(
        None,
        "--noise-key",
        help="--replay: the key that private training, or the noise on sums of updates, drew from"
        " (fedcli keygen --noise).",
        metavar="FILE",
    ),
    whole: bool | None = typer.Option(
        None,
        "--whole/--no-whole",
        help="Require all files that a coordinator needs [unless this is a client's copy,"
        " with files of one client at most]",
    ),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Check every file of a run by its SHA-256 and its shape, and report what was changed."""
    from fedcli.cli.render.verify import failure, render
    from fedcli.security.noise_key import read_noise_key
    from fedcli.steps.verify import verify as step
    from fedcli.verification.replay_sandbox import UserCode

    with Output("verify", printing) as output:
        if noise_key is not None and not replay:
            raise UsageError("--noise-key: has no use without --replay")
        key = None if noise_key is None else read_noise_key(noise_key, outside=run)
        result = step(
            run,
            round_number=round_,
            replay=UserCode(model, reduce, key) if replay else None,
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
