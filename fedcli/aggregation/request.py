"""The request to ``aggregate``: a rule, the invited clients, and files of partial means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from fedcli.errors import UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind
from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.run import Run
from fedcli.run.info import client_order
from fedcli.run.next_command import round_to_aggregate
from fedcli.run.participation import Invitation
from fedcli.run.round import Round
from fedcli.security.signatures import check_no_partials
from fedcli.strategies import Rule


@dataclass(frozen=True)
class Request:
    """A rule, and the ``invitation`` that says who may take part in which round.

    ``partials`` maps names without the suffix to files of partial means.
    """

    rule: Rule
    invitation: Invitation
    partials: Mapping[str, Path]

    def of_round(self, round_: Round) -> Self:
        """Return the same request for another round."""
        return replace(self, invitation=replace(self.invitation, round=round_))

    def rounds_of_partials(self) -> set[int]:
        """Return the rounds that the partial means are of. Raises what opening them does."""
        numbers = set()
        for path in self.partials.values():
            with Checkpoint(path, Kind.PARTIAL) as checkpoint:
                numbers.add(checkpoint.metadata.round or 0)
        return numbers


def read_request(
    run: Run,
    round_number: int | None,
    options: Mapping[str, Any] | None,
    members: Sequence[str],
    exclude: Sequence[str],
) -> Request:
    """Resolve the rule, separate ids from files, and read which clients the files cover.

    Raises ``UsageError`` for conflicting options and for partial means that the rule cannot use,
    that share a name or a client, or that hold a client that may not take part; ``NotReadyError``
    and ``CheckpointError`` for files that cannot be read.
    """
    typed = {key: value for key, value in (options or {}).items() if value is not None}
    plan = run.info.plan.aggregate.with_options(typed)
    rule = resolve(plan, typed.keys())
    if rule.optimizer.of_mean and not run.info.clients:
        raise UsageError(
            f"--server-optimizer {rule.server_optimizer}: needs the number of all clients, but this"
            " run has no list of them",
            hint="fedcli init --clients creates a run with one",
        )
    everybody = Invitation(
        run,
        round_to_aggregate(run, round_number),
        plan,
        run.choose_clients(exclude, "--exclude") if exclude else (),
        max_staleness=rule.options.get("max_staleness"),
    )
    files = [Path(member) for member in members if member.endswith(".safetensors")]
    if files:
        check_no_partials(run)
        check_no_private_partials(plan)
    ids = [member for member in members if not member.endswith(".safetensors")]
    partials = _by_name(files, rule)
    covered = _covered(files, everybody)
    named = tuple(run.choose_clients(ids, "aggregate")) if ids else None
    for client in named or ():
        if client in covered:
            raise UsageError(f"client {client}: is already in {covered[client]}")
    return Request(rule, replace(everybody, named=named, covered=frozenset(covered)), partials)


def check_no_private_partials(plan: AggregatePlan) -> None:
    """Raise ``UsageError`` for a plan that protects clients: partial means are not clipped."""
    if plan.client_level:
        raise UsageError(
            "--update-noise: needs the step of every client, to clip it, and a partial mean holds"
            " only their sum",
            hint="aggregate the updates of all clients at once",
        )


def _by_name(files: Sequence[Path], rule: Rule) -> dict[str, Path]:
    if files and not rule.adds_up:
        raise UsageError(
            f"partial means add up to a mean weighted by examples or uniform,"
            f" not to {rule.reduce} with weighting {rule.weighting}",
            path=files[0],
        )
    partials: dict[str, Path] = {}
    for path in files:
        if path.stem in partials:
            raise UsageError(
                f"another partial mean is also called {path.stem}; rename one", path=path
            )
        partials[path.stem] = path
    return partials


def _covered(files: Sequence[Path], everybody: Invitation) -> dict[str, str]:
    """Return the file that each client of a partial mean is in."""
    covered: dict[str, str] = {}
    for path in files:
        with Checkpoint(path, Kind.PARTIAL) as checkpoint:
            clients = set(checkpoint.metadata.updates or {})
        if twice := client_order(clients & covered.keys()):
            raise UsageError(f"client {twice[0]} is also in {covered[twice[0]]}", path=path)
        _check_invited(path, clients, everybody)
        covered.update(dict.fromkeys(clients, str(path)))
    return covered


def _check_invited(path: Path, clients: set[str], everybody: Invitation) -> None:
    number = everybody.round.number
    known = everybody.run.info.clients
    sampled = everybody.sampled(number)
    for reason, wrong in (
        ("is excluded", clients.intersection(everybody.excluded)),
        ("is not a client of this run", clients.difference(known) if known else ()),
        (f"is not sampled in round {number}", clients.difference(sampled) if sampled else ()),
    ):
        if wrong:
            raise UsageError(
                f"holds the update of client {client_order(wrong)[0]}, which {reason}",
                hint="fedcli aggregate --partial writes a new one from other clients",
                path=path,
            )
