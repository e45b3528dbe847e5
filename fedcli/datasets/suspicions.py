"""What is likely wrong with a data set, by the facts of its examples."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedcli.datasets.example_facts import ExampleFacts
from fedcli.datasets.folder_tree import some

_FEW = 10  # training examples of a class
_UNEVEN = 10  # times that the largest class has more examples than the smallest
_STRETCHED = 3  # times that one side is longer, of which the square crop leaves a third
_SIZES = 4  # times that the largest picture is wider than the smallest


@dataclass(frozen=True)
class Duplicate:
    """Examples of the same content: their names, and what is wrong about it.

    ``across`` means that they are in the training and the test part, ``conflicting`` that their
    labels differ.
    """

    names: tuple[str, ...]
    across: bool
    conflicting: bool


Counts = Mapping[str, Sequence[int]]  # examples of each class, by part


@dataclass(frozen=True)
class Evidence:
    """The examples of a data set, its classes, how many examples each has, and duplicates."""

    facts: Sequence[ExampleFacts]
    classes: Sequence[str]
    counts: Counts
    duplicates: Sequence[Duplicate]


def duplicates_of(facts: Sequence[ExampleFacts], root: str = "") -> list[Duplicate]:
    """Return the examples that are alike, value by value."""
    alike = defaultdict[bytes, list[ExampleFacts]](list)
    for one in facts:
        alike[one.digest].append(one)
    return [
        Duplicate(
            tuple(one.name for one in same),
            len({one.part for one in same}) > 1,
            len({one.label for one in same}) > 1,
        )
        for same in alike.values()
        if len(same) > 1
    ]


def suspicions(evidence: Evidence) -> list[str]:
    """Return one sentence for each thing that is likely wrong, the gravest first."""
    return [line for look in _LOOKS for line in look(evidence)]


def _copies(evidence: Evidence) -> Iterator[str]:
    for chosen, words in (
        (
            [d for d in evidence.duplicates if d.conflicting],
            "examples with the content of others, but another label",
        ),
        (
            [d for d in evidence.duplicates if d.across],
            "examples in both parts, which makes scores too good",
        ),
        (
            [d for d in evidence.duplicates if not d.across and not d.conflicting],
            "copies of other examples"
            + (", which a test part split off would share" if len(evidence.counts) == 1 else ""),
        ),
    ):
        if chosen:
            count = sum(len(one.names) - 1 for one in chosen)
            yield f"{words} ({count}): {some([' = '.join(d.names[:3]) for d in chosen])}"


def _classes_without(evidence: Evidence) -> Iterator[str]:
    for part, counts in evidence.counts.items():
        if missing := [name for name, n in zip(evidence.classes, counts, strict=True) if not n]:
            yield f"no {part} examples of: {some(missing, 20)}"


def _few(evidence: Evidence) -> Iterator[str]:
    counts = next(iter(evidence.counts.values()))
    pairs = zip(evidence.classes, counts, strict=True)
    few = [f"{name} ({n})" for name, n in pairs if 0 < n < _FEW]
    if few:
        yield f"fewer than {_FEW} examples to train on: {some(few, 20)}"


def _uneven(evidence: Evidence) -> Iterator[str]:
    counts = [n for n in next(iter(evidence.counts.values())) if n]
    if counts and max(counts) >= _UNEVEN * min(counts):
        yield (
            f"the largest class has {max(counts)} examples, the smallest {min(counts)}: look at the"
            " balanced accuracy, not at the accuracy"
        )


def _names(evidence: Evidence) -> Iterator[str]:
    folded = defaultdict[str, list[str]](list)
    for name in evidence.classes:
        folded["".join(filter(str.isalnum, name.casefold())) or name].append(name)
    for names in folded.values():
        if len(names) > 1:
            yield f"the classes {', '.join(map(repr, names))} may be one"


def _blank(evidence: Evidence) -> Iterator[str]:
    if blank := [one.name for one in evidence.facts if one.low == one.high]:
        yield f"{len(blank)} examples have one value everywhere: {some(blank)}"


def _shapes(evidence: Evidence) -> Iterator[str]:
    sized = [one for one in evidence.facts if one.width and one.height]
    long = [
        one.name
        for one in sized
        if max(one.width, one.height) > _STRETCHED * min(one.width, one.height)
    ]
    if long:
        yield f"{len(long)} pictures lose most of their longer side to the crop: {some(long)}"
    widths = [one.width for one in sized]
    if widths and max(widths) > _SIZES * min(widths):
        yield f"widths differ from {min(widths)} to {max(widths)}: thumbnails among the pictures?"


def _modes(evidence: Evidence) -> Iterator[str]:
    deep = Counter(one.bits for one in evidence.facts if one.bits in (16, 32) and _is_file(one))
    if deep:
        high = max(one.high for one in evidence.facts if one.bits in deep)
        yield (
            f"{sum(deep.values())} pictures have more than 8 bits, with values up to {high:g}:"
            " make sure that what matters is left in 8"
        )
    shallow = Counter("grey" if one.mode in _GREY else "colour" for one in evidence.facts)
    if len(shallow) > 1:
        rare, count = shallow.most_common()[-1]
        yield f"{count} of {len(evidence.facts)} pictures are {rare}, the others not"


_GREY = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def _is_file(one: ExampleFacts) -> bool:
    return " " not in one.mode


_LOOKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    _copies,
    _classes_without,
    _few,
    _uneven,
    _names,
    _blank,
    _shapes,
    _modes,
)
