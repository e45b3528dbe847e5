"""Names and numbers in sentences."""

from collections.abc import Iterable, Sequence

_MOST = 8


def named(noun: str, names: Sequence[object]) -> str:
    """Return ``client 2`` or ``clients 0, 1, 4``; a long list is cut."""
    if len(names) == 1:
        return f"{noun} {names[0]}"
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{noun}s {', '.join(map(str, names[:_MOST]))}{more}"


def runs_named(labels: Sequence[str]) -> str:
    """Return ``fedavg``, or ``runs fedavg, fedprox``; a long list is cut."""
    return labels[0] if len(labels) == 1 else named("run", labels)


def counted(number: int, noun: str) -> str:
    """Return ``1 round`` or ``3 rounds``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def model_named(kind: str, client: str) -> str:
    """Return the model of an evaluation in words; ``kind`` is as in ``evaluation.json``."""
    if kind == "global":
        return "global model"
    return f"{'personal model' if kind == 'personal' else 'model'} of client {client}"


def rounds_named(numbers: Iterable[int]) -> str:
    """Return ``round 2`` or ``rounds 1-5, 7``; a long list is cut."""
    spans: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans[:_MOST])
    more = sum(b - a + 1 for a, b in spans[_MOST:])
    alone = len(spans) == 1 and spans[0][0] == spans[0][1]
    return f"round{'' if alone else 's'} {text}{f' and {more} more' if more else ''}"
