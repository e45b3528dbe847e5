"""A survey of data: how training would understand it, and what its examples hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fedcli.datasets import DataOptions, load_dataset
from fedcli.datasets.base import Part
from fedcli.datasets.example_facts import ExampleFacts, facts_of_part, facts_of_pictures
from fedcli.datasets.folder_tree import LeftOut
from fedcli.datasets.folders import PartFolder
from fedcli.datasets.imagefolder import missing_remark, read_contents, table_of
from fedcli.datasets.listing import Listing, shape_of
from fedcli.datasets.own import open_examples, read_own
from fedcli.datasets.windows import parse_window
from fedcli.errors import DataError, UsageError
from fedcli.options import Given, option_of
from fedcli.progress import Label, Progress, Silence
from fedcli.run.info import DatasetInfo

_OF_NEW_RUNS = ("group", "group_column")


@dataclass(frozen=True)
class DataSurvey:
    """How data was understood, and what its examples hold."""

    classes: tuple[str, ...]
    shape: tuple[int, ...]
    lines: Sequence[str]
    parts: Sequence[str]
    facts: list[ExampleFacts] = field(default_factory=list)
    errors: list[DataError] = field(default_factory=list)
    groups: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


class _Said:
    """Progress that keeps what is said, and passes on how far it is."""

    def __init__(self, progress: Progress) -> None:
        self.lines: list[str] = []
        self._progress = progress

    def start(self, label: Label, total: int) -> None:
        self._progress.start(label, total)

    def advance(self, count: int = 1) -> None:
        self._progress.advance(count)

    def say(self, line: str) -> None:
        self.lines.append(line)


def survey(spec: str, info: DatasetInfo | None, reading: Given, options: DataOptions) -> DataSurvey:
    """Read data as training would, and decode each file once.

    ``spec`` is as for ``--dataset``; with ``info``, the data is a client's own of that run. Raises
    what reading a data set raises; files that cannot be decoded are in the result.
    """
    said = _Said(options.progress)
    options = replace(options, progress=said)
    if info is not None:
        return _as_own(spec, info, reading, said)
    if spec.startswith("imagefolder:"):
        return _as_folder(Path(spec.partition(":")[2]).expanduser(), reading, options, said)
    return _as_dataset(spec, reading, options, said)


def _as_folder(root: Path, reading: Given, options: DataOptions, said: _Said) -> DataSurvey:
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
    understood = DataSurvey(
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


def _with_pictures(understood: DataSurvey, parts: Mapping[str, Listing], said: _Said) -> DataSurvey:
    """Decode the pictures of all parts."""
    said.start("decoding", sum(len(one.names) for one in parts.values()))
    for name, listing in parts.items():
        facts, errors = facts_of_pictures(name, listing, understood.shape, said)
        understood.facts.extend(facts)
        understood.errors.extend(errors)
    return understood


def _as_dataset(spec: str, reading: Given, options: DataOptions, said: _Said) -> DataSurvey:
    """Read arrays, or a data set by name."""
    dataset = load_dataset(spec, options, reading)
    parts = {"train": dataset.train, "test": dataset.test}
    understood = DataSurvey(
        dataset.classes, dataset.shape, said.lines, list(parts), groups=dataset.group_names
    )
    return _with_arrays(understood, parts, str(dataset.dtype), said)


def _with_arrays(
    understood: DataSurvey, parts: Mapping[str, Part], dtype: str, said: _Said
) -> DataSurvey:
    bytes_each = np.dtype(dtype).itemsize * int(np.prod(understood.shape))
    said.start("reading", sum(len(one.labels) for one in parts.values()))
    for name, part in parts.items():
        facts, errors = facts_of_part(name, part, bytes_each, said)
        understood.facts.extend(facts)
        understood.errors.extend(errors)
    return understood


def _as_own(spec: str, info: DatasetInfo, reading: Given, said: _Said) -> DataSurvey:
    """Read data as ``train-client --data`` and ``evaluate --data`` do."""
    for name in _OF_NEW_RUNS:
        if name in reading:
            raise UsageError(f"{option_of(name)} {reading[name]}: is for partition, not for --run")
    kind, _, path = spec.partition(":")
    if kind not in ("imagefolder", "npz"):
        raise UsageError(f"--data {spec}: with --run, expected a folder or an npz file")
    if kind == "npz" or info.dtype != "uint8":
        part = open_examples(path, info, "train", said, reading=reading)
        understood = DataSurvey(info.classes, info.shape, said.lines, ["train"])
        return _with_arrays(understood, {"train": part}, info.dtype, said)
    parts = _own_parts(Path(path).expanduser(), info, reading, said)
    parts = {name: replace(one, window=info.window) for name, one in parts.items()}
    understood = DataSurvey(info.classes, info.shape, said.lines, list(parts))
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
