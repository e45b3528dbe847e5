"""The command to type next, as it works in this run, be the data in it or with its clients."""

from collections.abc import Sequence

from fedcli.run import Run

_NAMED = 5  # more clients than this are not listed one by one


def train_command(run: Run, clients: Sequence[str], round_number: int | None = None) -> str:
    """Return how to train these clients; a client with its own data trains where that is.

    ``round_number`` is left out where it is the open one. No clients stands for a run that was
    made without a list of them.
    """
    if not clients:
        words = "train-client --id NAME --data PATH"
    elif not run.client_shard(clients[0]).exists():
        words = f"train-client --id {clients[0]} --data PATH"
    elif len(clients) > _NAMED or tuple(clients) == run.info.clients:
        words = "train-client --id all"
    else:
        words = f"train-client --id {','.join(clients)}"
    if round_number is not None and round_number != run.open_round().number:
        words += f" --round {round_number}"
    return run.command(words)


def evaluate_command(run: Run, words: str = "evaluate") -> str:
    """Return how to score models of this run, on data of one's own where it holds none."""
    return run.command(words if run.test_shard.exists() else f"{words} --data PATH")
