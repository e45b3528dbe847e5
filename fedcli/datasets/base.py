"""The interface of all data sets: labels that are known from the start, pictures on demand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.formats.checkpoint import digest
from fedcli.formats.dtypes import Array
from fedcli.options import Declared, check, declared, option
from fedcli.partitioning.counts import stratified_sample
from fedcli.progress import Progress, Silence
from fedcli.randomness import stream

Labels = NDArray[np.int64]
Indices = NDArray[np.int64]
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The training part or the test part of a data set.

    ``labels`` is known from the start; ``read(indices)`` decodes those examples, in that order,
    to an array of shape (len(indices), *shape), and raises ``DataError`` that names the file.
    ``groups``, if known, says where each example comes from, as an index into
    ``Dataset.group_names``; in a test part, -1 is a group without training examples. ``skipped``
    are files that were left out because they cannot be decoded.
    """

    labels: Labels
    read: Callable[[Indices], Array]
    groups: Groups | None = None
    skipped: tuple[str, ...] = ()

    def subset(self, indices: Indices) -> "Part":
        """Return the part with only these examples, in this order."""
        groups = None if self.groups is None else self.groups[indices]
        return Part(self.labels[indices], lambda chosen: self.read(indices[chosen]), groups)

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Sample in proportion to the classes and, within each class, to its groups."""
        return stratified_sample(self.labels, count, rng, self.groups)


@dataclass(frozen=True)
class Dataset:
    """A data set: ``shape`` and ``dtype`` (uint8 or float32) are those of one example.

    ``identity`` identifies the data by content, not by path. It needs the files to be read but not
    decoded. ``group_names`` are the real origins of the examples, such as hospitals; empty if
    unknown. ``skipped`` are files that were left out because they cannot be decoded. ``options``
    are those of its kind alone that were given, without files and what ``identity`` has.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    train: Part
    test: Part
    identity: dict[str, Any]
    group_names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The options for finding and reading a data set."""

    data_dir: Path = option(Path("data"), "Where torchvision's data sets are.", "DIR")
    download: bool = option(
        False, "Download a torchvision data set into `--data-dir` first.", flag=True
    )
    image_size: int | None = option(
        None,
        "Make pictures N×N: scaled to cover the square, then cropped to its centre.",
        "N",
        at_least=4,
        at_most=4096,
        what="number of pixels",
        unset="the size of the first picture, its shorter side at most 224",
    )
    window: str | None = option(
        None,
        "Map pixel values LOW … HIGH to black … white, for all clients alike, and cut off the rest;"
        " for pictures of more than 8 bits, such as CT.",
        "LOW,HIGH",
        unset="8-bit pixels as they are",
    )
    test_fraction: float = option(
        0.2, "Share to test on, where data has no test part.", "F", above=0, below=1
    )
    seed: int = 0
    progress: Progress = field(default_factory=Silence)

    def __post_init__(self) -> None:
        """Refuse values that cannot be used (``UsageError``)."""
        check(self)


@dataclass(frozen=True)
class DatasetReader:
    """A row of ``DATASETS``: how a data set is read.

    ``load`` is called as ``load(argument, options, **own)`` and declares its own options; ``takes``
    names its argument, if any, as in ``npz:PATH``; ``refuses`` maps options of other data sets to
    what it has instead.
    """

    load: Callable[..., Dataset]
    takes: str | None = None
    refuses: Mapping[str, str] = field(default_factory=dict)

    @property
    def declared(self) -> dict[str, Declared]:
        """Its own options, by name."""
        return declared(getattr(self.load, "func", self.load))  # of a partial function


def split_off_test(part: Part, options: DataOptions) -> tuple[Part, Part, dict[str, Any]]:
    """Split a part into training and test by ``--test-fraction``, class by class.

    Within a class, known groups are sampled in proportion. Returns both parts, and what the split
    adds to the identity of the data set.
    """
    count = round(len(part.labels) * options.test_fraction)
    count = min(max(count, 1), len(part.labels) - 1)
    test = part.sample(count, stream(options.seed, "test split"))
    train = np.setdiff1d(np.arange(len(part.labels)), test)
    split = {"test_fraction": options.test_fraction, "split_seed": options.seed}
    return part.subset(train), part.subset(test), split


def file_digests(paths: Sequence[Path], progress: Progress) -> Iterator[str]:
    """Yield the SHA-256 of each file, hex, in order. Raises ``StorageError``."""
    progress.start("checking files", len(paths))
    for path in paths:
        yield digest(path)
        progress.advance()
