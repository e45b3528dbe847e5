"""The options that several commands share; each has one meaning everywhere."""

from dataclasses import dataclass

import typer

from fedcli.options import option
from fedcli.run import DEFAULT_RUN

RUN = typer.Option(
    DEFAULT_RUN, "--run", "-r", envvar="FEDCLI_RUN", help="The run directory.", metavar="DIR"
)
ROUND = typer.Option(None, "--round", help="The round; by default the open one.", metavar="N")
FORCE = typer.Option(False, "--force", help="Replace a result that was made from other inputs.")
KEY = typer.Option(
    None,
    "--key",
    help="Sign with the private key in FILE (fedcli keygen), if the run requires signatures.",
    metavar="FILE",
)
NOISE_KEY = typer.Option(
    None,
    "--noise-key",
    help="Draw secret noise from the key in FILE (fedcli keygen --noise), if privacy needs it.",
    metavar="FILE",
)
COMMITTED_KEY = typer.Option(
    None,
    "--noise-key",
    help="Commit to the coordinator's key for secret noise in FILE (fedcli keygen --noise), which"
    " --update-noise needs.",
    metavar="FILE",
)
SEED = typer.Option(
    None, "--seed", min=0, help="The seed; by default that of the run.", metavar="N"
)
OWN_MODEL = typer.Option(
    None,
    "--model",
    envvar="FEDCLI_MODEL",
    help="package.module:factory, for a run with a model of your own: the run's name for it.",
    metavar="NAME",
)
PLAN = typer.Option(
    None,
    "--plan",
    help="Take what is not typed from a TOML file, as fedcli plan prints one.",
    metavar="FILE",
)

REMOTE_CLIENTS = typer.Option(
    None,
    "--id",
    help="Whose files: at a client who works here, at the coordinator whom they are for or from.",
    metavar="ID",
)
WHOLE = typer.Option(
    False, "--whole", help="The whole newest model, and not the deltas that lead to it."
)


@dataclass(frozen=True)
class OutputOptions:
    """What is printed; ``debug`` is read by ``fedcli.cli.execute``, as ``json`` is on errors."""

    json: bool = option(False, "Print exactly one JSON object on standard output.", flag=True)
    quiet: bool = option(False, "Show no progress.", flag=True, short="-q")
    debug: bool = option(False, "Show a traceback when it fails.", flag=True)
