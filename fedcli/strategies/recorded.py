"""What clients recorded of their training, for the rules that look at it."""

from collections.abc import Sequence
from typing import Any

from fedcli.errors import UpdateError
from fedcli.strategies.combination import Contributor

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
            f"{client.path}: records no {key}, which this rule needs",
            hint=f"updates made with {how} do",
        )
    if not least <= value < below:
        raise UpdateError(
            f"{client.path}: this rule expects {key} from {least:g} to below {below:g},"
            f" found {value!r:.20}"
        )
    return value


def recorded_alike(
    rule: str, clients: Sequence[Contributor], key: str, how: str, least: float = 0
) -> float:
    """Return the one number that all clients recorded."""
    values = {client.name: recorded(client, key, how, least) for client in clients}
    first, *rest = values
    for name in rest:
        if values[name] != values[first]:
            raise UpdateError(
                f"{rule}: expected the same {key} of all clients, found"
                f" {values[first]:g} for {first} and {values[name]:g} for {name}",
                hint=f"train one of them again, or leave it out: fedcli aggregate --exclude {name}",
            )
    return values[first]


def check_every_step(rule: str, client: Contributor) -> None:
    """Refuse an update of which steps may have been left out, with the reason of ``rule``."""
    if client.training.get("precision") == "fp16":
        raise UpdateError(
            f"{client.path}: was trained with the precision fp16, which leaves out steps that"
            f" overflow; {rule}",
            hint="updates made with train-client --precision bf16 or fp32 do",
        )


def check_sgd(rule: str, client: Contributor) -> None:
    """Refuse an update that was not trained by SGD, with the reason that ``rule`` gives."""
    optimizer = client.training.get("optimizer", "sgd")
    if optimizer != "sgd":
        raise UpdateError(
            f"{client.path}: was trained with the optimizer {optimizer!r:.20}; {rule}",
            hint="updates made with train-client --optimizer sgd do",
        )
