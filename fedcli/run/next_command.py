"""Commands to type next in a run, wherever its data is."""

from collections.abc import Sequence

from fedcli.plan import AggregatePlan
from fedcli.run.directory import Run
from fedcli.run.sampling import is_sampled

_NAMED = 5  # more clients than this are not listed one by one


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
    elif len(clients) > _NAMED and is_sampled(plan):
        drawn = f"status --sampled{of_round}{sampling_words(run, plan)}"
        words = f'train-client --id "$({run.command(drawn)})"'
    elif len(clients) > _NAMED or tuple(clients) == run.info.clients:
        words = "train-client --id all"
    else:
        words = f"train-client --id {','.join(clients)}"
    key = " --key FILE" if run.info.members else ""
    return run.command(words + of_round + key)


def aggregate_command(run: Run, words: str = "") -> str:
    """Return the command that aggregates the open round; ``words`` are further options."""
    key = " --key FILE" if run.info.coordinator else ""
    return run.command(f"aggregate{words}{key}")


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
    return run.command(words if run.has_test_data else f"{words} --data PATH")
