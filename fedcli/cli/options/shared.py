"""The options that several commands share; each has one meaning everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fedcli.cli.options.groups import Group

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
        help="Sign with the private key in FILE (fedcli keygen), in a run that was made to.",
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
        help="Go on with this many updates; by default every client's is needed.",
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


@dataclass(frozen=True)
class MachineOptions(Group):
    """Where torch computes, and the code of a model that fedcli does not know."""

    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", metavar="NAME")] = (
        "auto"
    )
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads; by default all cores.", metavar="N"),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            envvar="FEDCLI_MODEL",
            help="package.module:factory, for a run of a model of your own; it must name the same.",
            metavar="NAME",
        ),
    ] = None


@dataclass(frozen=True)
class OutputOptions(Group):
    """What is printed; ``debug`` is read by ``fedcli.cli.execute``, as ``json`` is on errors."""

    json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when it fails.")] = False


def comma_list(text: str) -> tuple[str, ...]:
    """Split ``a,b,c``; the empty string is the empty list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
