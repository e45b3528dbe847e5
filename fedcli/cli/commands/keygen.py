"""``fedcli keygen``."""

from pathlib import Path

import typer

from fedcli.cli.options.shared import RUN, OutputOptions
from fedcli.cli.render.output import Output
from fedcli.errors import UsageError


def keygen(
    file: Path = typer.Argument(
        Path("fedcli.key"), help="The file of the private keys.", metavar="FILE"
    ),
    run: Path = RUN,
    show: bool = typer.Option(False, "--show", help="Print the public key of an existing FILE."),
    force: bool = typer.Option(
        False, "--force", help="Replace an existing key, which is then lost."
    ),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Make the private keys that sign and mask, and print their public keys."""
    with Output("keygen", printing) as output:
        if show and force:
            raise UsageError("--force: has no meaning with --show, which makes no key")
        from fedcli.steps.keygen import keygen as step

        result = step(run, file, show=show, force=force)
        if result.made:
            output.say(f"{result.path}: a private key; keep it to yourself")
        output.result(result, lambda result: [result.public])
