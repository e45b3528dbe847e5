"""Commands to type next in a run, wherever its data is."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from fedcli.errors import NotReadyError
from fedcli.plan import AggregatePlan
from fedcli.run.directory import Run
from fedcli.run.round import Round
from fedcli.run.sampling import is_sampled, sampled_clients

WAIT = 3600  # seconds, in the command that waits for clients
_NAMED = 5  # more clients than this are named only if that is short
_SHORT = 60  # characters of a list of clients
_ROUNDS = 10  # of a run that has just been made


def train_command(
    run: Run,
    clients: Sequence[str],
    round_number: int | None = None,
    plan: AggregatePlan | None = None,
) -> str:
    """Return the command that trains these clients; with ``--data`` for data outside the run.

    The open round is not named. An empty ``clients`` stands for a run without a list of clients.
    ``plan``, by default the run's, samples the clients of a round.
    """
    plan = plan or run.info.plan.aggregate
    is_open = round_number is None or round_number == run.open_round().number
    of_round = "" if is_open else f" --round {round_number}"
    if not clients:
        words = "train-client --id NAME --data PATH"
    elif not run.client_shard(clients[0]).exists():
        words = f"train-client --id {clients[0]} --data PATH"
    elif tuple(clients) == run.info.clients:
        words = "train-client --id all"
    elif len(clients) > _NAMED and _is_sample(run, clients, round_number, plan):
        drawn = f"status --sampled{of_round}{sampling_words(run, plan)}"
        words = f'train-client --id "$({run.command(drawn)})"'
    elif len(listed := _listed(clients)) <= _SHORT or len(clients) <= _NAMED:
        words = f"train-client --id {listed}"
    else:
        words = "train-client --id all"
    key = _key(run) if run.info.members else ""
    key += " --noise-key FILE" if run.info.plan.train.dp else ""
    return run.command(words + of_round + _own_model(run) + key)


def round_to_train(run: Run, number: int | None, clients: Sequence[str]) -> Round:
    """Return the round that clients train; raise what ``training_round`` does, with a hint."""
    return _round(run, number, lambda open_round: _for_clients(run, open_round, clients))


def round_to_aggregate(run: Run, number: int | None) -> Round:
    """Return the round to aggregate; raise what ``training_round`` does, with a hint."""
    return _round(run, number, lambda open_round: _to_end(run, open_round))


def _round(run: Run, number: int | None, hint: Callable[[Round], str]) -> Round:
    try:
        return run.training_round(number)
    except NotReadyError as error:
        raise error.amended(hint=hint(run.open_round())) from None


def _for_clients(run: Run, open_round: Round, clients: Sequence[str]) -> str:
    delivered = set(open_round.delivered())
    waiting = [client for client in clients if client not in delivered]
    if not waiting:
        return _to_end(run, open_round)
    return f"train for round {open_round.number} first: {train_command(run, waiting)}"


def _to_end(run: Run, open_round: Round) -> str:
    return f"end round {open_round.number} first: {aggregate_command(run)}"


def _is_sample(
    run: Run, clients: Sequence[str], round_number: int | None, plan: AggregatePlan
) -> bool:
    """Return whether these are the clients sampled for a round."""
    number = round_number or run.open_round().number
    return is_sampled(plan) and tuple(clients) == sampled_clients(run.info, number, plan)


def _listed(clients: Sequence[str]) -> str:
    """Return clients as ``--id`` takes them; more than two successive numbers become a range."""
    parts = []
    for first, last in _ranges(clients):
        if first == last:
            parts.append(first)
        else:
            separator = "-" if int(last) - int(first) > 1 else ","
            parts.append(f"{first}{separator}{last}")
    return ",".join(parts)


def _ranges(clients: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield first and last client of each series of successive numbers."""
    start = clients[0]
    for one, other in pairwise([*clients, ""]):
        if not (_is_number(one) and _is_number(other) and int(other) == int(one) + 1):
            yield start, one
            start = other


def _is_number(client: str) -> bool:
    return client.isdecimal() and str(int(client)) == client


def run_command(run: Run, plan: Path | None = None) -> str:
    """Return the command that runs many rounds of a simulation, as ``plan`` says, if given."""
    words = f"--rounds {_ROUNDS}" if plan is None else f"--plan {shlex.quote(str(plan))}"
    noisy = run.info.plan.train.dp or _has_central_noise(run)
    key = " --noise-key FILE" if noisy else ""
    return run.command(f"run {words}{_own_rule(run)}{_own_model(run)}{key}")


def aggregate_command(run: Run, words: str = "") -> str:
    """Return the command that aggregates the open round; ``words`` are further options."""
    key = _key(run) if run.info.coordinator else ""
    key += " --noise-key FILE" if _has_central_noise(run) else ""
    return run.command(f"aggregate{words}{_own_rule(run)}{key}")


def _has_central_noise(run: Run) -> bool:
    return bool(run.info.plan.aggregate.update_noise) and run.info.plan.secagg is None


def push_command(run: Run) -> str:
    """Return the command that sends what others need, to the run's remote if it names one."""
    return run.command("push" if run.info.remote is not None else "push REMOTE")


def pull_command(run: Run) -> str:
    """Return the command that fetches what is new, from the run's remote if it names one."""
    return run.command("pull" if run.info.remote is not None else "pull REMOTE")


def close_command(run: Run) -> str:
    """Return the command that signs the list of a round's masked updates."""
    return run.command(f"aggregate --close{_key(run)}")


def unmask_command(run: Run, member: str) -> str:
    """Return the command with which a member helps to open the sum of a closed round."""
    return run.command(f"unmask --id {member}{_key(run)}")


def sampling_words(run: Run, plan: AggregatePlan) -> str:
    """Return the options that make the run's plan sample as ``plan`` does, if they differ."""
    of_run = run.info.plan.aggregate
    if (plan.clients_per_round, plan.fraction) == (of_run.clients_per_round, of_run.fraction):
        return ""
    if plan.fraction is not None:
        return f" --fraction {plan.fraction}"
    return f" --clients-per-round {plan.clients_per_round}"


def evaluate_command(run: Run, words: str = "evaluate") -> str:
    """Return the command that scores models, with ``--data`` if the run holds no test data."""
    data = "" if run.has_test_data else " --data PATH"
    return run.command(f"{words}{data}{_own_model(run)}")


def _key(run: Run) -> str:
    """Return the option that names a private key, which a simulation has in the run."""
    return "" if run.has_keys else " --key FILE"


def _own_model(run: Run) -> str:
    """Return the option that asks for a user's own network, which no file can do."""
    model = run.info.model
    return f" --model {shlex.quote(model.name)}" if model.is_users_own else ""


def _own_rule(run: Run) -> str:
    reduce = run.info.plan.aggregate.reduce
    return f" --reduce {shlex.quote(reduce)}" if reduce and ":" in reduce else ""
