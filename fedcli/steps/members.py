"""The members that ``aggregate`` is given: ids of clients, and files of partial means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcli.checkpoint import Checkpoint
from fedcli.errors import UsageError
from fedcli.metadata import Kind
from fedcli.run import Run
from fedcli.strategies import Rule


@dataclass(frozen=True)
class Members:
    """``clients`` are those that were named (None: all count), ``covered`` those in partial means.

    ``partials`` are the files by their names without the suffix.
    """

    clients: tuple[str, ...] | None
    partials: Mapping[str, Path]
    covered: frozenset[str]


def sort_members(run: Run, members: Sequence[str], rule: Rule) -> Members:
    """Tell ids from files, and read which clients the files cover.

    Raises ``UsageError`` for partial means that the rule cannot use, that have the same name or
    a client in common; ``NotReadyError`` and ``CheckpointError`` for files that cannot be read.
    """
    files = [Path(member) for member in members if member.endswith(".safetensors")]
    ids = [member for member in members if not member.endswith(".safetensors")]
    partials: dict[str, Path] = {}
    covered: dict[str, str] = {}
    if files and (rule.reduce != "mean" or not rule.weigher.of_partials):
        raise UsageError(
            f"{files[0]}: partial means add up to a mean weighted by examples or uniform,"
            f" not to {rule.reduce} with weighting {rule.weighting}"
        )
    for path in files:
        if path.stem in partials:
            raise UsageError(f"{path}: another partial mean is called {path.stem} too; rename one")
        partials[path.stem] = path
        with Checkpoint(path, Kind.PARTIAL) as checkpoint:
            for client in checkpoint.metadata.updates or {}:
                if client in covered:
                    raise UsageError(f"{path}: client {client} is in {covered[client]} too")
                covered[client] = str(path)
    clients = tuple(run.choose_clients(ids, "aggregate")) if ids else None
    for client in clients or ():
        if client in covered:
            raise UsageError(f"client {client}: is in {covered[client]} already")
    return Members(clients, partials, frozenset(covered))
