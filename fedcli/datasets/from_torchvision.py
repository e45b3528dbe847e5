"""Read the data sets of torchvision, by name, from ``--data-dir``."""

import contextlib
import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.datasets import pictures
from fedcli.datasets.base import (
    DataOptions,
    Dataset,
    Indices,
    Labels,
    Part,
    file_digests,
    split_off_test,
)
from fedcli.datasets.file_kinds import kind_of
from fedcli.datasets.labels import from_numbers
from fedcli.datasets.torchvision_sets import SOURCES, Arguments, InTorchvision
from fedcli.datasets.windows import Window, parse_window
from fedcli.errors import (
    DataError,
    FedcliError,
    MissingDependencyError,
    NotReadyError,
    is_memory_error,
)
from fedcli.progress import Progress
from fedcli.system import available_cores

_MOST_FILES = 1000  # looked at to find a damaged one


def load(name: str, argument: str, options: DataOptions) -> Dataset:
    """Open a data set of torchvision; pictures are decoded on demand.

    Raises ``NotReadyError`` for missing files, ``MissingDependencyError``, and ``DataError`` for a
    picture that cannot be decoded.
    """
    source = SOURCES[name]
    if source.needs and importlib.util.find_spec(source.needs) is None:
        raise _missing(name, source.needs)
    with _blaming(name, source, options):
        return _load(name, source, options)


def _load(name: str, source: InTorchvision, options: DataOptions) -> Dataset:
    opened = [_open(name, source, arguments, options) for arguments in source.parts]
    found = [_labels(one, source.labels) for one in opened]
    labelling = from_numbers(found, _class_names(opened[0]) or None, f"--dataset {name}")
    labels = labelling.parts
    if labelling.remark:
        options.progress.say(f"{name}: {labelling.remark}")
    shape = _shape(opened[0], source.channels, options)
    window = parse_window(options.window)
    parts = [
        Part(own, partial(_read, name, one, shape, window))
        for one, own in zip(opened, labels, strict=True)
    ]
    identity = {
        "sha256": _digest(opened, labels, options.progress),
        "examples": [len(own) for own in labels],
    }
    if len(parts) == 1:
        train, test, split = split_off_test(parts[0], options)
        identity |= split
    else:
        train, test = parts
    return Dataset(name, labelling.classes, shape, np.dtype("u1"), train, test, identity)


def _open(name: str, source: InTorchvision, arguments: Arguments, options: DataOptions) -> Any:
    import torchvision.datasets

    make: Callable[..., Any] = partial(
        getattr(torchvision.datasets, source.name), options.data_dir, **arguments
    )
    # torchvision prints while it downloads, but standard output is for the result.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return make(download=False) if source.downloads else make()
        except (RuntimeError, OSError) as error:
            if not _is_absent(error):
                raise
            missing = error
        if not (options.download and source.downloads):
            raise _not_ready(name, source, options) from missing
        try:
            return make(download=True)
        except (RuntimeError, OSError) as error:
            if is_memory_error(error) or _other_content(source, options):
                raise
            raise NotReadyError(f"--download {name}: could not be downloaded: {error}") from error


def _is_absent(error: Exception) -> bool:
    """Return whether torchvision misses files, and has not failed to read them."""
    said = str(error)
    return isinstance(error, FileNotFoundError) or "not found" in said or "not present" in said


@contextlib.contextmanager
def _blaming(name: str, source: InTorchvision, options: DataOptions) -> Iterator[None]:
    """Turn what torchvision raises for damaged files, which may be anything, into our errors."""
    try:
        yield
    except ImportError as error:
        raise _missing(name, error.name or str(error)) from error
    except NotReadyError as error:
        if found := _other_content(source, options):
            raise found from error
        raise
    except FedcliError:
        raise
    except Exception as error:
        if is_memory_error(error):
            raise
        found = _other_content(source, options)
        raise found or _unreadable(name, source, options, error) from error


def _missing(name: str, package: str) -> MissingDependencyError:
    extra = "'fedcli[datasets]'" if package.partition(".")[0] == "scipy" else package
    return MissingDependencyError(
        f"--dataset {name}: needs the package {package}", hint=f"pip install {extra}"
    )


def _unreadable(
    name: str, source: InTorchvision, options: DataOptions, error: Exception
) -> DataError:
    file = getattr(error, "filename", None)
    reason = pictures.reason_of(error)
    return DataError(
        f"torchvision cannot read its files of {name}: {reason}",
        hint=_again(source, "the damaged file"),
        path=Path(file) if isinstance(file, str) else options.data_dir,
    )


def _other_content(source: InTorchvision, options: DataOptions) -> DataError | None:
    """Return the error of a file of the data set that is empty or a page about it, if any is."""
    for path in _files_of(source, options.data_dir):
        found = kind_of(path)
        if found in ("an HTML page", "empty"):
            return DataError(
                f"is {found}; expected a file of torchvision's {source.name}",
                hint=_again(source, "it"),
                path=path,
            )
    return None


def _again(source: InTorchvision, what: str) -> str:
    if source.downloads:
        return f"remove {what}, and repeat the command with --download"
    return f"get {what} again, as described in the docs of torchvision.datasets.{source.name}"


def _files_of(source: InTorchvision, root: Path) -> Iterator[Path]:
    """Yield the first files below ``root`` in what is named after the data set."""
    with contextlib.suppress(OSError):
        for entry in sorted(root.iterdir()):
            if re.sub("[^a-z0-9]", "", entry.name.lower()).startswith(source.name.lower()):
                inside = [entry] if entry.is_file() else entry.rglob("*")
                yield from islice((path for path in inside if path.is_file()), _MOST_FILES)


def _not_ready(name: str, source: InTorchvision, options: DataOptions) -> NotReadyError:
    hint = f"add --download, or name its folder with --data-dir (torchvision's {source.name})"
    if not source.downloads:
        hint = f"get its files as described in the docs of torchvision.datasets.{source.name}"
    return NotReadyError(f"has no (complete) {name} data set", hint=hint, path=options.data_dir)


def _labels(opened: Any, attribute: str) -> Labels:
    if attribute == "h5":  # PCAM has its labels in a separate file
        targets = opened._base_folder / opened._FILES[opened._split]["targets"]["file"]
        with opened.h5py.File(targets) as file:
            return np.array(file["y"], np.int64).reshape(-1)
    values = getattr(opened, attribute)
    if attribute == "_samples":
        values = [label for _, label in values]
    values = values.tolist() if hasattr(values, "tolist") else values  # arrays and tensors
    labels = np.array(values, np.int64)
    return labels if labels.ndim == 1 else labels[:, 0]  # QMNIST has more columns


# Attributes in which torchvision's data sets hold pictures: arrays, paths, or pairs with a label.
_PICTURES = ("_image_files", "_images", "_samples", "samples", "data")


def _digest(opened: Sequence[Any], labels: Sequence[Labels], progress: Progress) -> str:
    """Hash the labels and the pictures, as arrays in memory or as files."""
    content = hashlib.sha256()
    for one, own in zip(opened, labels, strict=True):
        content.update(own.astype("<i8").tobytes())
        held = _held(one)
        if isinstance(held, list) and isinstance(held[0], str | Path):
            for digest in file_digests([Path(path) for path in held], progress):
                content.update(bytes.fromhex(digest))
        else:
            for array in held if isinstance(held, list) else [held]:
                content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _held(opened: Any) -> Any:
    """Return the pictures as torchvision holds them: an array, or a list of arrays or paths."""
    for name in _PICTURES:
        if hasattr(opened, name):
            held = getattr(opened, name)
            return [picture for picture, _ in held] if "samples" in name else held
    if hasattr(opened, "h5py"):  # PCAM
        return [opened._base_folder / opened._FILES[opened._split]["images"]["file"]]
    return sorted(path for path in Path(opened.root).rglob("*") if path.is_file())


def _class_names(opened: Any) -> tuple[str, ...]:
    names = getattr(opened, "classes", None) or getattr(opened, "categories", None) or ()
    return tuple(name if isinstance(name, str) else name[0] for name in names)


def _shape(opened: Any, channels: int, options: DataOptions) -> tuple[int, int, int]:
    if options.image_size is not None:
        return (channels, options.image_size, options.image_size)
    first = opened[0][0]
    return (channels, *pictures.limited_size(first.height, first.width))


def _read(
    name: str, opened: Any, shape: tuple[int, ...], window: Window | None, indices: Indices
) -> pictures.Picture:
    def one(index: int) -> pictures.Picture:
        try:
            return pictures.as_array(opened[int(indices[index])][0], shape, window)
        except ImportError as error:
            raise _missing(name, error.name or str(error)) from error
        except Exception as error:
            if is_memory_error(error):
                raise
            reason = pictures.reason_of(error)
            raise DataError(
                f"{name}: picture {indices[index]} cannot be decoded: {reason}"
            ) from error

    large = shape[1] * shape[2] > 64 * 64
    return pictures.stack(one, len(indices), shape, threads=available_cores() if large else 1)
