"""``fedcli keygen``."""

from pathlib import Path

import typer

from fedcli.cli.manual import shown
from fedcli.cli.options.shared import RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError


@shown("--noise --show", "fedcli keygen st-mary.key")
def keygen(
    file: Path = typer.Argument(
        Path("fedcli.key"), help="The file of the private keys.", metavar="FILE"
    ),
    run: Path = RUN,
    noise: bool = typer.Option(
        False, "--noise", help="Make a key for secret noise instead (train-client --noise-key)."
    ),
    show: bool = typer.Option(False, "--show", help="Print what is public of an existing FILE."),
    force: bool = typer.Option(
        False, "--force", help="Replace an existing key, which is then lost."
    ),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Make the private keys that sign and mask, or one for noise, and print what is public."""
    with Output("keygen", printing) as output:
        if show and force:
            raise UsageError("--force: has no meaning with --show, which makes no key")
        from fedcli.steps.keygen import keygen as step

        result = step(run, file, noise=noise, show=show, force=force)
        if result.made:
            output.say(f"{result.path}: a private key; keep it to yourself")
        output.result(result, lambda result: [result.public])
