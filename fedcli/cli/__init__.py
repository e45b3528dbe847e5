"""The command line: ``main`` is the console script and the one place that ends the process."""

import os
import sys
from typing import Any, NoReturn

import typer

from fedcli import user_code
from fedcli.cli import streams
from fedcli.cli.program import COMMANDS, GROUPS, NoCommandError, app, command_of, print_whole_help
from fedcli.errors import ExitStatus, FedcliError, UsageError, is_memory_error
from fedcli.text import printable

__all__ = ["COMMANDS", "GROUPS", "app", "command_of", "execute", "main"]


def execute(arguments: list[str]) -> int:
    """Run one command line and return its exit status; errors are printed, not raised."""
    user_code.forget()
    if arguments[:1] == ["help"]:
        return _help(arguments[1:])
    try:
        status = int(app(arguments, prog_name="fedcli", standalone_mode=False) or 0)
        if status == ExitStatus.INTERRUPTED:  # typer's own way to pass on a KeyboardInterrupt
            raise KeyboardInterrupt
        return status
    except FedcliError as error:
        found = error.amended(hint=_hint(arguments, error)).as_json()
        return _report(arguments, found, error.status)
    except NoCommandError as error:
        from fedcli.cli.suggestions import unknown_command  # only where something is wrong

        unknown = unknown_command(*error.args)
        return _report(arguments, unknown.as_json(), unknown.status)
    except typer.TyperException as error:
        if not error.format_message():  # no command at all: the help was printed
            return error.exit_code
        return _report(arguments, _in_our_words(error, arguments), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        found = _described("interrupted", "interrupted")
        return _report(arguments, found, ExitStatus.INTERRUPTED)
    except streams.EndedByUserError:
        return ExitStatus.INTERRUPTED
    except SystemExit as error:
        if (found_in := user_code.blamed(error)) is None:
            raise
        return _report(arguments, found_in.as_json(), found_in.status)
    except BrokenPipeError:
        streams.abandon(sys.stdout)
        return ExitStatus.FAILED
    except Exception as error:
        return _report_unexpected(arguments, error)


def _command(arguments: list[str]) -> str | None:
    return next((word for word in arguments[:1] if word in COMMANDS), None)


def _hint(arguments: list[str], error: FedcliError) -> str | None:
    if not isinstance(error, UsageError):
        return error.hint
    from fedcli.cli.suggestions import unknown_value_hint

    return unknown_value_hint(error, _command(arguments))


def _in_our_words(error: typer.TyperException, arguments: list[str]) -> dict[str, Any]:
    """Return what the command line cannot be read for, as a JSON object."""
    from fedcli.cli.suggestions import of_typer

    command = _command(arguments)
    if (said := of_typer(error, arguments, command)) is not None:
        return said.as_json()
    hint = " ".join(filter(None, ("fedcli", command, "--help")))
    return _described("usage", error.format_message(), hint)


def _help(words: list[str]) -> int:
    """Print the whole help of a command, or that of the program."""
    if len(words) == 1 and words[0] in COMMANDS:
        print_whole_help(words[0])
        return ExitStatus.DONE
    return execute([*words, "--help"])


def _report_unexpected(arguments: list[str], error: Exception) -> int:
    if is_memory_error(error):
        hint = "free some memory, or raise the limit (ulimit -v)"
        reason = "".join(f": {line}" for line in str(error).strip().splitlines()[:1])
        found = _described("out-of-memory", f"out of memory{reason}", hint)
        return _report(arguments, found, ExitStatus.OUT_OF_MEMORY)
    if blamed := user_code.blamed(error):
        return _report(arguments, blamed.as_json(), blamed.status)
    if isinstance(error, OSError) and streams.is_of_stream(error):
        streams.abandon(sys.stdout)
        found = _described("storage", f"standard output: cannot write: {error.strerror}")
    elif isinstance(error, OSError):
        found = _described("storage", f"cannot read or write: {error}")
    else:
        hint = "this is a mistake in fedcli; --debug shows where"
        found = _described("internal", f"{type(error).__name__}: {error}", hint)
    return _report(arguments, found, ExitStatus.FAILED)


def _described(kind: str, message: str, hint: str | None = None) -> dict[str, Any]:
    return {"kind": kind, "message": message, "hint": hint}


def _report(arguments: list[str], error: dict[str, Any], status: int) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    if "--json" in arguments:
        from fedcli.cli.render.output import print_json  # imports rich, which --help does without

        try:
            print_json({"error": error})
            return int(status)
        except OSError:
            streams.abandon(sys.stdout)
    streams.complain(f"error: {printable(error['message'])}")
    if error["hint"]:
        streams.complain(f"hint: {printable(error['hint'])}")
    return int(status)


def main() -> NoReturn:
    """Run the command line of this process."""
    streams.prepare(debug="--debug" in sys.argv)
    status = streams.finish(execute(sys.argv[1:]))
    # A process that has imported torch takes most of a second to take itself down.
    os._exit(status)
