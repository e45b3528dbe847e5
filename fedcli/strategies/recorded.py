"""What clients recorded of their training, for the rules that look at it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fedcli.errors import UpdateError
from fedcli.strategies.decision import Contributor

TOO_LARGE = 1e30  # for a loss, a rate or a number of steps that somebody reports


def recorded(
    client: Contributor, key: str, how: str, least: float = 0, below: float = TOO_LARGE
) -> float:
    """Return a number from ``least`` to ``below``; ``how`` makes an update that records it.

    Raises ``UpdateError``, as all functions here do.
    """
    value = _number(client, key, how, (int, float), least, below)
    return float(value)


def recorded_count(client: Contributor, key: str, how: str) -> int:
    """Return a whole number of at least 1."""
    value: int = _number(client, key, how, (int,), 1, TOO_LARGE)
    return value


def _number(
    client: Contributor,
    key: str,
    how: str,
    types: tuple[type, ...],
    least: float,
    below: float,
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
    """Return the one number that all clients recorded; most of them, where they do not agree."""
    values = [recorded(client, key, how, least) for client in clients]
    (usual, _), *_ = Counter(values).most_common(1)
    like = clients[values.index(usual)]
    errors = [
        UpdateError(
            f"{rule}: expected the same {key} of all clients, found"
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
    """Refuse an update of which steps may have been left out, with the reason of ``rule``."""
    if client.training.precision == "fp16":
        raise UpdateError(
            f"was trained with the precision fp16, which leaves out steps that overflow; {rule}",
            hint="updates made with train-client --precision bf16 or fp32 do",
            path=client.path,
            client=client.name,
        )


def check_sgd(rule: str, client: Contributor) -> None:
    """Refuse an update that was not trained by SGD, with the reason that ``rule`` gives."""
    optimizer = client.training.optimizer
    if optimizer not in (None, "sgd"):
        raise UpdateError(
            f"was trained with the optimizer {optimizer!r:.20}; {rule}",
            hint="updates made with train-client --optimizer sgd do",
            path=client.path,
            client=client.name,
        )
