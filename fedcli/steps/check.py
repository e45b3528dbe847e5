"""Read data as training would, and say how it was understood and what is likely wrong."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fedcli.datasets import DATASETS, DataOptions, load_dataset
from fedcli.datasets.base import Part
from fedcli.datasets.example_facts import ExampleFacts, facts_of_part, facts_of_pictures
from fedcli.datasets.folder_tree import LeftOut
from fedcli.datasets.folders import PartFolder
from fedcli.datasets.imagefolder import (
    Listing,
    missing_remark,
    read_contents,
    shape_of,
    table_of,
    unknown_range,
)
from fedcli.datasets.own import open_examples, read_own
from fedcli.datasets.suspicions import Duplicate, Evidence, duplicates_of, suspicions
from fedcli.datasets.windows import parse_window, proposal
from fedcli.errors import BadFilesError, DataError, NotReadyError, UsageError
from fedcli.options import NONE, Given, option_of
from fedcli.partitioning.counts import label_counts
from fedcli.plan.sections import option_words
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.info import DatasetInfo

_OF_NEW_RUNS = ("group", "group_column")


@dataclass(frozen=True)
class Span:
    """The least, the median and the greatest of some figures."""

    least: float
    median: float
    greatest: float


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be decoded, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class CheckResult:
    """The result of ``check``.

    ``counts`` are examples per class, by part, in the order of ``classes``; ``shape`` is that of an
    example in training. ``modes`` and ``bits`` count examples as they are stored; ``values`` is the
    range of their values. ``usable`` means that training would take the data.
    """

    data: str
    usable: bool
    understood: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Mapping[str, Sequence[int]]
    groups: tuple[str, ...]
    shape: tuple[int, ...]
    left_out: tuple[LeftOut, ...]
    width: Span | None
    height: Span | None
    modes: Mapping[str, int]
    bits: Mapping[str, int]
    values: tuple[float, float] | None
    bad: tuple[BadFile, ...]
    duplicates: tuple[Duplicate, ...]
    likely_wrong: tuple[str, ...]
    next: str


class _Said:
    """Progress that keeps what is said, and passes on how far it is."""

    def __init__(self, progress: Progress) -> None:
        self.lines: list[str] = []
        self._progress = progress

    def start(self, label: str, total: int) -> None:
        self._progress.start(label, total)

    def advance(self, count: int = 1) -> None:
        self._progress.advance(count)

    def say(self, line: str) -> None:
        self.lines.append(line)


@dataclass(frozen=True)
class _Understood:
    """How data was understood, and what its examples hold."""

    classes: tuple[str, ...]
    shape: tuple[int, ...]
    lines: Sequence[str]
    parts: Sequence[str]
    facts: list[ExampleFacts] = field(default_factory=list)
    errors: list[DataError] = field(default_factory=list)
    groups: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def check(
    data: str,
    *,
    run: Run | None = None,
    reading: Given = NONE,
    options: DataOptions | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Read a folder, an npz file, or a data set by name, as training would.

    With ``run``, it is read as a client's own data of that run. ``reading`` has options of an
    imagefolder, by name. Each file is decoded once.

    Raises ``NotReadyError``, ``UsageError``, ``StorageError``, and ``DataError`` for data that
    cannot be understood; files that cannot be decoded are in the result.
    """
    said = _Said(progress or Silence())
    options = replace(options or DataOptions(), progress=said)
    spec = _spec(data)
    if run is not None:
        found = _as_own(spec, run.info.dataset, reading, said)
    elif spec.startswith("imagefolder:"):
        found = _as_folder(Path(spec.partition(":")[2]).expanduser(), reading, options, said)
    else:
        found = _as_dataset(spec, reading, options, said)
    return _result(data, spec, found, run, reading, options.window)


def _spec(data: str) -> str:
    """Return what ``--dataset`` would take for ``--data``."""
    name = data.partition(":")[0]
    if name in DATASETS and (name != data or DATASETS[name].takes is None):
        return data
    path = Path(data).expanduser()
    if not path.exists():
        raise NotReadyError(
            f"--data {data}: no such file or folder, and no data set of this name",
            hint=f"the data sets are: {', '.join(DATASETS)}",
        )
    return f"{'imagefolder' if path.is_dir() else 'npz'}:{data}"


def _as_folder(root: Path, reading: Given, options: DataOptions, said: _Said) -> _Understood:
    """Read a folder as ``partition`` does."""
    columns = {name: value for name, value in reading.items() if name not in ("group", "skip_bad")}
    table = table_of(**{"labels_csv": None, **columns})
    found = read_contents(
        root, reading.get("group"), table, skip_missing=bool(reading.get("skip_bad"))
    )
    shape = shape_of(found.listings, options)
    names = list(found.understanding.parts) or [""]
    window = parse_window(options.window)
    listings = [replace(one, window=window) for one in found.listings]
    parts = {name or "all": one for name, one in zip(names, listings, strict=True)}
    groups = sorted({group for one in found.listings for group in one.groups or ()})
    understood = _Understood(
        found.understanding.classes,
        shape,
        [*_how(found.understanding.parts), *found.understanding.remarks, *said.lines],
        list(parts),
        groups=tuple(groups),
        left_out=found.understanding.left_out,
    )
    return _with_pictures(understood, parts, said)


def _how(parts: Mapping[str, PartFolder]) -> list[str]:
    """Say where the classes are."""
    places = [f"{part.folder.name or '.'}/" for part in parts.values()]
    grouped = any(part.groups for part in parts.values())
    what = "groups of class folders" if grouped else "class folders"
    return [f"{what} in {' and '.join(places)}"] if places else []


def _with_pictures(
    understood: _Understood, parts: Mapping[str, Listing], said: _Said
) -> _Understood:
    """Decode the pictures of all parts."""
    said.start("decoding", sum(len(one.names) for one in parts.values()))
    for name, listing in parts.items():
        facts, errors = facts_of_pictures(name, listing, understood.shape, said)
        understood.facts.extend(facts)
        understood.errors.extend(errors)
    return understood


def _as_dataset(spec: str, reading: Given, options: DataOptions, said: _Said) -> _Understood:
    """Read arrays, or a data set by name."""
    dataset = load_dataset(spec, options, reading)
    parts = {"train": dataset.train, "test": dataset.test}
    understood = _Understood(
        dataset.classes, dataset.shape, said.lines, list(parts), groups=dataset.group_names
    )
    return _with_arrays(understood, parts, str(dataset.dtype), said)


def _with_arrays(
    understood: _Understood, parts: Mapping[str, Part], dtype: str, said: _Said
) -> _Understood:
    bytes_each = np.dtype(dtype).itemsize * int(np.prod(understood.shape))
    said.start("reading", sum(len(one.labels) for one in parts.values()))
    for name, part in parts.items():
        facts, errors = facts_of_part(name, part, bytes_each, said)
        understood.facts.extend(facts)
        understood.errors.extend(errors)
    return understood


def _as_own(spec: str, info: DatasetInfo, reading: Given, said: _Said) -> _Understood:
    """Read data as ``train-client --data`` and ``evaluate --data`` do."""
    for name in _OF_NEW_RUNS:
        if name in reading:
            raise UsageError(f"{option_of(name)} {reading[name]}: is for partition, not for --run")
    kind, _, path = spec.partition(":")
    if kind not in ("imagefolder", "npz"):
        raise UsageError(f"--data {spec}: with --run, expected a folder or an npz file")
    if kind == "npz" or info.dtype != "uint8":
        part = open_examples(path, info, "train", said, reading=reading)
        understood = _Understood(info.classes, info.shape, said.lines, ["train"])
        return _with_arrays(understood, {"train": part}, info.dtype, said)
    parts = _own_parts(Path(path).expanduser(), info, reading, said)
    parts = {name: replace(one, window=info.window) for name, one in parts.items()}
    understood = _Understood(info.classes, info.shape, said.lines, list(parts))
    return _with_pictures(understood, parts, said)


def _own_parts(path: Path, info: DatasetInfo, reading: Given, said: _Said) -> dict[str, Listing]:
    """List what ``train-client`` reads, and what ``evaluate`` reads if that is another folder."""
    listing, missing = read_own(path, info.classes, "train", said, reading)
    said.lines += missing_remark(missing)
    parts = {"train": listing}
    if "labels_csv" not in reading:
        try:
            test, _ = read_own(path, info.classes, "test", Silence(), reading)
        except DataError as error:
            said.say(f"evaluate would refuse it: {error.message}")
        else:
            if test.root != listing.root:
                parts["test"] = test
    return parts


def _result(
    data: str, spec: str, found: _Understood, run: Run | None, reading: Given, window: str | None
) -> CheckResult:
    facts = found.facts
    counts = {part: _counts(found, part) for part in found.parts}
    duplicates = tuple(duplicates_of(facts))
    evidence = Evidence(facts, found.classes, counts, duplicates)
    usable = bool(facts) and (not found.errors or bool(reading.get("skip_bad")))
    sized = [one for one in facts if one.width]
    return CheckResult(
        data=data,
        usable=usable,
        understood=tuple(found.lines),
        classes=found.classes,
        counts=counts,
        groups=found.groups,
        shape=found.shape,
        left_out=found.left_out,
        width=_span([one.width for one in sized]),
        height=_span([one.height for one in sized]),
        modes=dict(Counter(one.mode for one in facts).most_common()),
        bits={str(bits): n for bits, n in sorted(Counter(one.bits for one in facts).items())},
        values=(min(f.low for f in facts), max(f.high for f in facts)) if facts else None,
        bad=tuple(one for error in found.errors for one in _bad(error)),
        duplicates=duplicates,
        likely_wrong=tuple(suspicions(evidence)),
        next=_next(data, spec, run, {**reading, **_window(found, run, window)}, usable=usable),
    )


def _counts(found: _Understood, part: str) -> list[int]:
    labels = np.array([one.label for one in found.facts if one.part == part], np.int64)
    return label_counts(labels, len(found.classes))


def _span(figures: Sequence[int]) -> Span | None:
    return Span(min(figures), median(figures), max(figures)) if figures else None


def _bad(error: DataError) -> list[BadFile]:
    if isinstance(error, BadFilesError):
        return [BadFile(path, reason) for path, reason in error.files.items()]
    return [BadFile(str(error.path or ""), error.reason)]


def _window(found: _Understood, run: Run | None, given: str | None) -> Given:
    """Return the window to type, as given or as the files need it; a run has its own."""
    needed = unknown_range(found.errors)
    if run is None and given is None and needed is not None:
        return {"window": proposal(*needed)}
    return {} if given is None else {"window": given}


def _next(data: str, spec: str, run: Run | None, reading: Given, *, usable: bool) -> str:
    """Return the command to type next."""
    typed: dict[str, Any] = {name: str(value) for name, value in reading.items()}
    typed.pop("skip_bad", None)
    words = [shlex.quote(word) for word in option_words(typed)]
    bad = reading.get("skip_bad") or (not usable and "window" not in reading)
    skip = ["--skip-bad"] if bad else []
    if not usable:
        own = [] if run is None else ["--run", shlex.quote(str(run.root))]
        return " ".join(["fedcli check --data", shlex.quote(data), *words, *own, *skip])
    if run is None:
        return " ".join(["fedcli partition --dataset", shlex.quote(spec), *words, *skip])
    return run.command(
        " ".join(["train-client --id NAME --data", shlex.quote(data), *words, *skip])
    )
