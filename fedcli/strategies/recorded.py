"""Read what clients recorded about their training, for the rules that need it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fedcli.errors import UpdateError
from fedcli.strategies.decision import Contributor

TOO_LARGE = 1e30  # for a reported loss, rate or number of steps


def recorded(
    client: Contributor, key: str, how: str, least: float = 0, below: float = TOO_LARGE
) -> float:
    """Return a number from ``least`` to below ``below``; ``how`` is the command that records it.

    Raises ``UpdateError``, as do all functions here.
    """
    value = _number(client, key, how, (int, float), least, below)
    return float(value)


def recorded_count(client: Contributor, key: str, how: str) -> int:
    """Return an integer of at least 1."""
    value: int = _number(client, key, how, (int,), 1, TOO_LARGE)
    return value


def _number(
    client: Contributor, key: str, how: str, types: tuple[type, ...], least: float, below: float
) -> Any:
    value: Any = client.training.get(key)
    if type(value) not in types:
        raise UpdateError(
            f"records no {key}, which this rule needs",
            hint=f"updates made with {how} do",
            path=client.path,
            client=client.name,
        )
    if not least <= value < below:
        raise UpdateError(
            f"this rule expects {key} from {least:g} to below {below:g}, found {value!r:.20}",
            path=client.path,
            client=client.name,
        )
    return value


def recorded_alike(
    rule: str, clients: Sequence[Contributor], key: str, how: str, least: float = 0
) -> float:
    """Return the number that all clients recorded; the minority is refused if they disagree."""
    values = [recorded(client, key, how, least) for client in clients]
    (usual, _), *_ = Counter(values).most_common(1)
    like = clients[values.index(usual)]
    errors = [
        UpdateError(
            f"{rule}: expected the same {key} from all clients, found"
            f" {usual:g} for {like.name} and {value:g} for {client.name}",
            hint="train one of them again, or leave it out: fedcli aggregate --exclude"
            f" {client.name}",
            path=client.path,
            client=client.name,
        )
        for client, value in zip(clients, values, strict=True)
        if value != usual
    ]
    if errors:
        raise UpdateError.together(errors)
    return usual


def check_every_step(rule: str, client: Contributor) -> None:
    """Refuse an update whose training may have skipped steps; ``rule`` gives the reason."""
    if client.training.precision == "fp16":
        raise UpdateError(
            f"was trained with the precision fp16, which skips steps that overflow; {rule}",
            hint="updates made with train-client --precision bf16 or fp32 do",
            path=client.path,
            client=client.name,
        )


def check_sgd(rule: str, client: Contributor) -> None:
    """Refuse an update that was not trained by SGD; ``rule`` gives the reason."""
    optimizer = client.training.optimizer
    if optimizer not in (None, "sgd"):
        raise UpdateError(
            f"was trained with the optimizer {optimizer!r:.20}; {rule}",
            hint="updates made with train-client --optimizer sgd do",
            path=client.path,
            client=client.name,
        )
