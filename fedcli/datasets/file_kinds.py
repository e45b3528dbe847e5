"""What a file is, by its first bytes, for messages about files that are something else."""

from pathlib import Path

_HEAD_BYTES = 512
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "a PDF file"),
    (128, b"DICM", "a DICOM file"),
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
