"""Patterns of the tensors that updates do not hold: frozen tensors and local layers."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import translate

from fedcli.errors import UsageError

_MOST_WILD = 200
_LONGEST = 500  # characters of a pattern


def matching(patterns: Sequence[str], names: Iterable[str]) -> frozenset[str]:
    """Return the tensors that match one of the patterns by their own or their module's name.

    ``*`` matches any text: ``fc`` matches all tensors of that layer, ``layer[12].*.bn1`` some
    layers of a ResNet. A pattern that starts with ``!`` excludes tensors: ``*`` and ``!fc`` match
    all layers except one.
    """
    wanted = _named_by([p for p in patterns if not p.startswith("!")])
    unwanted = _named_by([p.removeprefix("!") for p in patterns if p.startswith("!")])
    return frozenset(n for n in names if wanted(n) and not unwanted(n))


def _named_by(patterns: Sequence[str]) -> Callable[[str], bool]:
    # Plain names are looked up in a set, because there may be thousands of them.
    plain = {p for p in patterns if not is_wild(p)}
    wild = [
        re.compile(translate(text)).match for p in patterns if is_wild(p) for text in (p, f"{p}.*")
    ]

    def named(name: str) -> bool:
        parts = name.split(".")
        modules = (".".join(parts[: count + 1]) for count in range(len(parts)))
        return any(module in plain for module in modules) or any(match(name) for match in wild)

    return named


def is_wild(pattern: str) -> bool:
    """Return whether a pattern may match more than one name."""
    return any(character in pattern for character in "*?[")


def check_patterns(patterns: Sequence[str], key: str) -> None:
    """Raise ``ValueError`` for untrusted patterns that would take too long to match."""
    wild = sum(map(is_wild, patterns))
    if wild > _MOST_WILD or max(map(len, patterns), default=0) > _LONGEST:
        raise ValueError(
            f"records as {key} more than {_MOST_WILD} patterns with wildcards, or some of more than"
            f" {_LONGEST} characters"
        )


def checked(patterns: Sequence[str], names: Iterable[str], option: str) -> frozenset[str]:
    """Return ``matching``. Raises ``UsageError`` for a pattern that matches nothing."""
    names = sorted(names)
    for pattern in patterns:
        if not matching([pattern.removeprefix("!")], names):
            raise UsageError(
                f"{option} {pattern}: matches no tensor of the model",
                hint=f"its tensors are {', '.join(names[:3])}, …",
            )
    return matching(patterns, names)


def check_ties(chosen: Collection[str], tied: Mapping[str, str], where: str) -> None:
    """Raise ``ValueError`` if only some of the names of a tied tensor are chosen."""
    for alias, name in tied.items():
        if (alias in chosen) != (name in chosen):
            here, there = (alias, name) if alias in chosen else (name, alias)
            raise ValueError(
                f"{where}: {here!r} is the same tensor as {there!r}; name both of them, or neither"
            )


def withheld(
    freeze: Sequence[str], local_layers: Sequence[str], names: Iterable[str]
) -> frozenset[str]:
    """Return the tensors that an update with these patterns does not hold."""
    names = frozenset(names)
    return matching(freeze, names) | matching(local_layers, names)
