"""The options that several commands share; each has one meaning everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fedcli.options import option

RunOption = Annotated[
    Path,
    typer.Option("--run", "-r", envvar="FEDCLI_RUN", help="The run directory.", metavar="DIR"),
]
RoundOption = Annotated[
    int | None,
    typer.Option("--round", help="The round; by default the open one.", metavar="N"),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace a result that was made from other inputs.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="Sign with the private key in FILE (fedcli keygen), if the run requires signatures.",
        metavar="FILE",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="The seed; by default that of the run.", metavar="N"),
]
MinClientsOption = Annotated[
    int | None,
    typer.Option(
        "--min-clients",
        min=1,
        help="Continue with this many updates; by default every client's is needed.",
        metavar="N",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Leave clients out: an id, a list (0,3) or a range (0-9); can be repeated.",
        metavar="ID",
    ),
]


OwnModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="FEDCLI_MODEL",
        help="package.module:factory, for a run with a model of your own: the run's name for it.",
        metavar="NAME",
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", help="Read the run's plan from a TOML file.", metavar="FILE"),
]
NewSeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="The seed of the run.", metavar="N")
]


@dataclass(frozen=True)
class OutputOptions:
    """What is printed; ``debug`` is read by ``fedcli.cli.execute``, as ``json`` is on errors."""

    json: bool = option(False, "Print exactly one JSON object on standard output.", flag=True)
    quiet: bool = option(False, "Show no progress.", flag=True, short="-q")
    debug: bool = option(False, "Show a traceback when it fails.", flag=True)
