"""The program as typer knows it: its commands, each built when it is asked for."""

import importlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from fedcli import __version__
from fedcli.cli.manual import manual_of, page_of
from fedcli.cli.options.groups import flattened
from fedcli.cli.render.help import command_help, program_help
from fedcli.completion.catalogue import summaries

GROUPS = {
    "Make a run": ("partition", "init", "plan", "check"),
    "A round": ("train-client", "aggregate", "unmask", "evaluate"),
    "Look": ("status", "report", "inspect", "verify"),
    "Many rounds, many runs": ("run", "sweep"),
    "Move and keep": ("push", "pull", "export", "gc", "keygen"),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
_HELP_NAMES = ["-h", "--help"]


def command_function(name: str) -> Callable[..., None]:
    """Import the function of a command."""
    function = name.replace("-", "_")
    module = importlib.import_module(f"fedcli.cli.commands.{function}")
    command: Callable[..., None] = getattr(module, function)
    return command


class _Command(TyperCommand):
    """A command whose help is fedcli's own."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.print_help(ctx, whole=False)

    def print_help(self, ctx: Any, *, whole: bool) -> None:
        """Print what the command and its options are for."""
        name, text, params = str(self.name), self.help or "", self.get_params(ctx)
        manual, page = manual_of(name), page_of(name)
        _print(command_help(name, text, params, manual, page, whole=whole))


@cache
def command_of(name: str) -> Any:
    """Build a command with its options."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    settings = {"help_option_names": _HELP_NAMES}
    register = program.command(name, cls=_Command, context_settings=settings)
    register(flattened(command_function(name)))
    return typer.main.get_command(program)


def print_whole_help(name: str) -> None:
    """Print the whole help of a command."""
    command = command_of(name)
    command.print_help(command.make_context(name, [], resilient_parsing=True), whole=True)


class NoCommandError(Exception):
    """The first word of a command line is not a command; the word is its argument."""


class _Commands(TyperGroup):
    """The commands: one needs none of what the others import."""

    def __init__(self, *arguments: Any, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.commands = dict.fromkeys(COMMANDS, TyperCommand("built when it is asked for"))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return command_of(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise NoCommandError(args[0])
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        known = summaries()  # so that no command is imported
        groups = {
            group: {name: known.get(name) or summary(name) for name in names}
            for group, names in GROUPS.items()
        }
        options: list[Any] = self.get_params(ctx)
        rows = [(", ".join(one.opts), str(one.help)) for one in options]
        _print(program_help(groups, rows))


def summary(name: str) -> str:
    """Return the first sentence that a command says of itself."""
    return (command_function(name).__doc__ or "").partition("\n\n")[0]


def _print(lines: list[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


app = typer.Typer(
    name="fedcli",
    cls=_Commands,
    help="Federated learning as plain commands: one step, one process, one file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": _HELP_NAMES},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedcli {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Federated learning as plain commands: one step, one process, one file."""
