"""What a file is, by its first bytes, for messages about files that are something else."""

import shlex
import zipfile
from pathlib import Path

from fedcli.errors import DataError

_HEAD_BYTES = 512
DICOM = "a DICOM file"
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "a PDF file"),
    (128, b"DICM", DICOM),
    (344, b"n+1\0", "a NIfTI file"),
    (344, b"ni1\0", "a NIfTI header"),
    (4, b"n+2\0", "a NIfTI file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"PK\x03\x04", "a zip file"),
    (0, b"\x1f\x8b", "a gzip file"),
    (257, b"ustar", "a tar file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
    (0, b"\x93NUMPY", "a numpy array"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"MATLAB 5.0", "a MATLAB file"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (0, b"\x80\x02", "a pickle"),
    (0, b"\x80\x04", "a pickle"),
    (0, b"\x80\x05", "a pickle"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
)
_BY_ENDING = {
    ".csv": "a table",
    ".tsv": "a table",
    ".xlsx": "a table",
    ".nii.gz": "a NIfTI file",
    ".tar.gz": "a tar file",
    ".tgz": "a tar file",
}
_PICTURES = "PATH/<class>/*.png with --dataset imagefolder:PATH or --data PATH"
_ARRAYS = "numpy.savez('data.npz', x=pictures, y=labels)"
_UNPACK = "unpack it, and name the folder: {}"
_HINTS = {
    "a Parquet file": f"write its pictures to {_PICTURES}, or save them as arrays: {_ARRAYS}",
    "an HDF5 file": f"save its arrays as npz, in Python: {_ARRAYS}",
    "a MATLAB file": f"save its arrays as npz, in Python: {_ARRAYS}",
    "a numpy array": f"save it with its labels, in Python: {_ARRAYS}",
    "a pickle": f"save its arrays as npz, in Python: {_ARRAYS}",
    "a table": "name the folder of the pictures, and the table with --labels-csv",
    "a zip file": _UNPACK.format("unzip {path}"),
    "a tar file": _UNPACK.format("tar -xf {path}"),
    "a gzip file": _UNPACK.format("gunzip {path}"),
    "an HTML page": "this is not the data but a page about it: download it again",
    "a NIfTI file": f"files of single slices go into folders of classes, like {_PICTURES}",
    DICOM: f"DICOM files go into folders of classes, like {_PICTURES}",
}
_PAGES = (b"<!doctype html", b"<html")


def kind_of(path: Path) -> str | None:
    """Return what the content of a file is, such as "an HDF5 file", or None if unknown.

    Only the first 512 bytes are read. A file that cannot be read is unknown.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    return kind_of_bytes(head)


def other_file(path: Path, expected: str) -> DataError:
    """Return the error that says what a file is instead, and how to make it usable."""
    found = kind_of(path)
    if found in (None, "a zip file", "a gzip file"):
        endings = (what for end, what in _BY_ENDING.items() if path.name.lower().endswith(end))
        found = next(endings, found)
    hint = _HINTS.get(found or "", f"for pictures: {_PICTURES}; for arrays: {_ARRAYS}")
    what = f"is {found}" if found else "is a file of an unknown kind"
    return DataError(
        f"{what}; expected {expected}",
        hint=hint.replace("{path}", shlex.quote(str(path))),
        path=path,
    )


def is_packed(path: Path) -> bool:
    """Return whether a zip file holds files other than arrays, as an npz file does not."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return False
    return bool(names) and not any(name.endswith(".npy") for name in names)


def kind_of_bytes(head: bytes) -> str | None:
    """Return what begins with these bytes, or None if unknown."""
    if not head:
        return "empty"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_PAGES):
        return "an HTML page"
    if text.startswith((b"<?xml", b"<svg")):
        return "an XML file"
    found = (what for place, magic, what in _MAGIC if head[place:].startswith(magic))
    return next(found, None)
