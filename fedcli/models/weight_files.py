"""Read files of weights without running their code: safetensors, and what ``torch.save`` writes."""

import argparse
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedcli.errors import BadInputError, NotReadyError, is_memory_error
from fedcli.user_code import in_one_line

_NOT_WEIGHTS = {
    b"<!DOCTYPE": "is a web page, not weights",
    b"<html": "is a web page, not weights",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself",
    b"\x89HDF": "is an HDF5 file, such as Keras writes",
    b"\x1f\x8b": "is compressed with gzip",
    b"\x93NUMPY": "is an array of numpy",
}
_START = 64  # bytes that tell what a file is
_NAMED = re.compile(r"GLOBAL ([A-Za-z_][\w.]*)")  # in torch's messages

# Checkpoints often hold arguments and best scores. Building these objects runs no code of a file.
_SCALAR = np.float64(0).__reduce__()[0]  # the function that builds numpy's numbers
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    *((_SCALAR, f"numpy.{name}.multiarray.scalar") for name in ("core", "_core")),
]


def read_weight_file(path: Path) -> Any:
    """Read what a file holds, with its tensors on the CPU; its content decides on its format.

    Raises ``NotReadyError`` if there is no such file, and ``BadInputError`` for any other one that
    cannot be read, and for one that holds objects whose loading would run code.
    """
    if path.is_dir():
        raise BadInputError(f"--init-from {path}: is a folder; expected a file of weights")
    if not path.is_file():
        raise NotReadyError(f"--init-from {path}: no such file")
    try:
        with path.open("rb") as file:
            start = file.read(_START)
        return _read(path, start)
    except BadInputError as error:
        raise error.amended(
            hint=error.hint, message=f"--init-from {path}: {error.message}"
        ) from None


def _read(path: Path, start: bytes) -> Any:
    if not start:
        raise BadInputError("is empty (0 bytes)", hint="copy or download it again")
    for magic, reason in _NOT_WEIGHTS.items():
        if start.lstrip().lower().startswith(magic.lower()):
            raise BadInputError(reason, hint="expected .safetensors or what torch.save writes")
    if start[8:9] == b"{" and not start.startswith(b"PK"):
        return _safetensors(path)
    if start.startswith(b"PK"):
        _check_archive(path)
    return _pickled(path)


def _safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadInputError(
            f"is a damaged or truncated safetensors file: {in_one_line(error)}",
            hint="copy or download it again",
        ) from None


def _check_archive(path: Path) -> None:
    """Refuse a zip file that ``torch.save`` did not write, or of which a part is missing."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise BadInputError("is truncated or damaged", hint="copy or download it again") from None
    if any(name.endswith("/code/") or "/code/__torch__" in name for name in names):
        raise BadInputError("is a TorchScript program, not weights", hint=_SAVE)
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        raise BadInputError(f"is a zip file without weights; it holds {listed(names)}")


_SAVE = (
    "if you trust the file, load it in Python and keep its weights alone:"
    " torch.save(model.state_dict(), 'weights.pth')"
)


def _pickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, with paths of torch's own files
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's pickle can raise anything
        if is_memory_error(error):
            raise
        raise _refusal(error) from None


def _refusal(error: Exception) -> BadInputError:
    """Say why a pickle was not loaded, without torch's advice to load it in any case."""
    text = str(error)
    named = _NAMED.search(text)
    if named is not None and not named[1].startswith("torch._utils."):  # a name that is cut off
        return BadInputError(
            f"holds {named[1]}, and to load it could run code of the file", hint=_SAVE
        )
    if "This file can still be loaded" in text and named is None:
        return BadInputError(
            "holds objects other than tensors, and to load them could run code", hint=_SAVE
        )
    return BadInputError(
        "is damaged, or is not a file of weights",
        hint="expected .safetensors, or a state_dict that torch.save wrote",
    )


def listed(names: "list[str]", most: int = 4) -> str:
    """Return the first few names, quoted, and how many more there are."""
    shown = [repr(name) for name in names[:most]]
    more = len(names) - len(shown)
    return ", ".join([*shown, *([f"and {more} more"] if more else [])]) or "nothing"
