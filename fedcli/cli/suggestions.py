"""What a mistyped command, option or value most likely stands for."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from fedcli.cli.program import COMMANDS
from fedcli.completion.catalogue import commands_with, options, options_that_take
from fedcli.errors import UsageError
from fedcli.spelling import did_you_mean, nearest

# What other programs call a step.
_COMMANDS = {
    **dict.fromkeys(("fit", "train", "client", "local", "update"), "train-client"),
    **dict.fromkeys(("split", "cut", "shard", "prepare", "dataset"), "partition"),
    **dict.fromkeys(("average", "merge", "combine", "server", "fedavg"), "aggregate"),
    **dict.fromkeys(("eval", "test", "score", "predict"), "evaluate"),
    **dict.fromkeys(("simulate", "start", "resume", "loop", "rounds"), "run"),
    **dict.fromkeys(("new", "create", "setup"), "init"),
    **dict.fromkeys(("ls", "list", "info", "watch", "progress"), "status"),
    **dict.fromkeys(("plot", "compare", "summary", "results", "table"), "report"),
    **dict.fromkeys(("show", "cat", "diff", "dump"), "inspect"),
    **dict.fromkeys(("grid", "tune", "experiment", "array"), "sweep"),
    **dict.fromkeys(("clean", "prune", "delete", "remove"), "gc"),
    **dict.fromkeys(("config", "template", "schema"), "plan"),
    **dict.fromkeys(("audit", "replay"), "verify"),
    **dict.fromkeys(("save", "convert", "onnx"), "export"),
    **dict.fromkeys(("keys", "genkey"), "keygen"),
}
# What other programs call an option; the first that the command has is meant.
_OPTIONS = {
    **dict.fromkeys(("--workers", "--parallel", "--num-jobs", "--processes"), ("--jobs",)),
    **dict.fromkeys(("--gpu", "--gpus", "--cuda", "--cpu"), ("--device",)),
    **dict.fromkeys(("--client", "--client-id", "--cid", "--name"), ("--id",)),
    **dict.fromkeys(("--bs", "--batch"), ("--batch-size",)),
    **dict.fromkeys(("--wd", "--l2"), ("--weight-decay",)),
    **dict.fromkeys(("--num-labels", "--labels"), ("--classes", "--num-classes")),
    **dict.fromkeys(("--arch", "--network", "--net", "--architecture"), ("--model",)),
    **dict.fromkeys(("--aggregator", "--aggregation", "--rule", "--defense"), ("--strategy",)),
    **dict.fromkeys(("--method", "--trainer"), ("--algorithm", "--strategy")),
    **dict.fromkeys(("--partitioner", "--split", "--distribution", "--iid"), ("--scheme",)),
    **dict.fromkeys(("--dirichlet", "--dirichlet-alpha", "--beta"), ("--alpha",)),
    **dict.fromkeys(("--dir", "--directory", "--folder", "--workdir"), ("--run", "--out")),
    **dict.fromkeys(("--config", "--config-file", "--conf"), ("--plan",)),
    **dict.fromkeys(("--overwrite", "-f", "--yes"), ("--force",)),
    **dict.fromkeys(("--test-size", "--test-split-size"), ("--test-fraction",)),
    **dict.fromkeys(("--weights", "--checkpoint", "--resume"), ("--init-from",)),
    **dict.fromkeys(("--compression", "--compress", "--quantize"), ("--encode",)),
    **dict.fromkeys(("--participation", "--sample", "--fraction-fit"), ("--fraction",)),
    **dict.fromkeys(("--data", "--data-set"), ("--dataset", "--data")),
    **dict.fromkeys(("--verbose", "-v"), ("--debug",)),
}


def unknown_command(word: str) -> UsageError:
    """Return the error for a command that does not exist."""
    near = nearest(word, (*COMMANDS, *_COMMANDS))
    hint = f"did you mean {_COMMANDS.get(near, near)}?" if near else "fedcli --help lists them"
    return UsageError(f"fedcli has no command {word!r}", hint=hint)


def unknown_option(word: str, command: str | None) -> UsageError:
    """Return the error for an option that a command, or the program itself, does not have."""
    if command is None and (whose := commands_with(word)):
        hint = f"it comes after the command: fedcli {whose[0]} {word}"
        return UsageError(f"{word}: comes before a command", hint=hint)
    if command is None:
        near = did_you_mean(word, ("--help", "--version"))
        return UsageError(f"{word}: is not an option of fedcli", hint=near or "fedcli --help")
    return UsageError(
        f"{word}: is not an option of {command}",
        hint=_meant(word, command) or f"fedcli {command} --help",
    )


def _meant(word: str, command: str) -> str | None:
    """Return the hint for an option that a command does not have."""
    rows = options(command)
    for other in _OPTIONS.get(word, ()):
        if other in rows:
            return f"did you mean {other}?"
    near = nearest(word, rows)
    if (whose := commands_with(word)) and not (near and _is_spelling(near, word)):
        return f"{word} is an option of {_listed(whose)}"
    return None if near is None else f"did you mean {near}?"


def _is_spelling(near: str, word: str) -> bool:
    """Return whether one word is the other one with more or fewer letters at its end."""
    return near.startswith(word) or word.startswith(near)


def unknown_value_hint(error: UsageError, command: str | None) -> str | None:
    """Return the hint of an error for a value that another option may know."""
    if error.unknown is None:
        return error.hint
    option, value = error.unknown
    near = error.hint.removeprefix("did you mean ").removesuffix("?") if error.hint else ""
    others = [other for other in options_that_take(value) if other != option]
    if not others or (near and _is_spelling(near, value)):
        return error.hint
    known = options(command or "")
    here = [f"{other} {value}" for other in others if other in known]
    elsewhere = f"{others[0]} {value} of {_listed(commands_with(others[0]))}"
    return f"did you mean {', or '.join(filter(None, (near, *(here or [elsewhere]))))}?"


def _listed(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def of_typer(error: Any, arguments: Sequence[str], command: str | None) -> UsageError | None:
    """Return an error of typer in fedcli's words; None if typer's own say it."""
    if hasattr(error, "possibilities"):  # of an option that does not exist
        return unknown_option(error.option_name, command)
    one, hint = getattr(error, "param", None), f"fedcli {command} --help"
    if one is None:
        return None
    name = next((word for word in one.opts if word.startswith("--")), one.metavar)
    if hasattr(error, "param_type"):  # of one that is missing
        return UsageError(f"{name}: must be given", hint=hint)
    expected = _KINDS.get(one.type_descriptor.annotation)
    found = _value_of(one.opts, arguments)
    if expected is None or found is None or _is_number(found):
        return UsageError(f"{name}: {error.message[:1].lower()}{error.message[1:]}", hint=hint)
    return UsageError(f"{name}: expected {expected}, found {found!r}", hint=hint)


_KINDS = {int: "a whole number", float: "a number"}


def _value_of(names: Sequence[str], arguments: Sequence[str]) -> str | None:
    """Return what was typed for an option, the last time."""
    words = [part for word in arguments for part in word.split("=", 1)]
    return next((value for name, value in reversed([*pairwise(words)]) if name in names), None)


def _is_number(text: str) -> bool:
    """Return whether text is a whole number, so that its size was refused."""
    return text.removeprefix("-").isdecimal()
