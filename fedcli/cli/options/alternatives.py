"""Options that take several values, each for other runs: ``--alpha 0.1,0.5 --seed 0-2``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedcli.cli.options.groups import Takes
from fedcli.cli.options.lists import comma_list
from fedcli.errors import UsageError
from fedcli.experiment.cases import numbers_of
from fedcli.options import Declared

Alternatives = Mapping[str, Sequence[Any]]  # several values of each option that was typed


@dataclass(frozen=True)
class TakesAlternatives(Takes):
    """Which options a parameter stands for; it is given a list of values for each that was typed.

    An option that itself takes a list, such as ``--augment``, has one value.
    """

    known: Callable[[], Mapping[str, Declared]] = dict

    def declarations(self) -> Iterable[Declared]:
        """Return the options as a file has them, each as a list of its values."""
        return [replace(one, many=True) for one in self.known().values()]

    def value(self, given: dict[str, Any]) -> dict[str, list[Any]]:
        """Return the values of each option, by its key in a file."""
        known = self.known()
        return {key: values_of(known[key], typed) for key, typed in given.items()}


def alternatives(known: Callable[[], Mapping[str, Declared]], panel: str) -> TakesAlternatives:
    """Return the options of a section of the file, as ``sweep`` takes them."""
    return TakesAlternatives(
        lambda: {key: _as_text(one) for key, one in known().items()}, panel, known
    )


def _as_text(one: Declared) -> Declared:
    if _has_one_value(one):
        return one
    return replace(one, kind=str, hint=str, option=replace(one.option, choices=None))


def _has_one_value(one: Declared) -> bool:
    return one.many or one.option.listed or one.kind is bool


def values_of(one: Declared, typed: Any) -> list[Any]:
    """Read the values that were typed. Raises ``UsageError``."""
    if _has_one_value(one):
        return [typed]
    parts = comma_list(typed)
    if one.kind is int:
        return [*numbers_of(",".join(parts) or typed, one.words)]
    if not parts:
        raise UsageError(f"{one.words}: expected a value, or several with commas")
    try:
        return [one.kind(one.spelled(part)) for part in parts]
    except ValueError:
        raise UsageError(
            f"{one.words}: expected a number, or several such as 0.1,0.5, found {typed!r}"
        ) from None
