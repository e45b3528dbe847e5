"""Pictures as people have them: turned, damaged, enormous, or something else by another name."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedcli.datasets import pictures
from fedcli.datasets.file_kinds import kind_of_bytes
from fedcli.errors import DataError

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
ORIENTATIONS = range(1, 9)


def exif(orientation: int, *more: tuple[int, int, int, bytes]) -> bytes:
    """A little-endian EXIF block: the orientation, and other entries (tag, type, count, data)."""
    entries = [(0x0112, 3, 1, struct.pack("<HH", orientation, 0)), *more]
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


def corners() -> Image.Image:
    """Four pixels by two, all different."""
    return Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_a_picture_is_turned_as_its_orientation_says(tmp_path, orientation, suffix):
    path = tmp_path / f"turned{suffix}"
    block = corners().getexif()
    block[0x0112] = orientation
    corners().save(path, exif=block, lossless=True)
    pixels = np.asarray(corners()).transpose(2, 0, 1)
    expected = {
        1: pixels,
        2: pixels[:, :, ::-1],
        3: pixels[:, ::-1, ::-1],
        4: pixels[:, ::-1],
        5: pixels.swapaxes(1, 2),
        6: np.rot90(pixels, -1, (1, 2)),
        7: np.rot90(pixels.swapaxes(1, 2), 2, (1, 2)),
        8: np.rot90(pixels, 1, (1, 2)),
    }[orientation]
    assert pictures.default_size(path) == expected.shape[1:]
    np.testing.assert_array_equal(pictures.load(path, expected.shape), expected)


ODD = {
    "a rational with three numbers": [(0x011A, 5, 3, struct.pack("<I", 8))],
    "a rational beyond the end": [(0x011A, 5, 1, struct.pack("<I", 1 << 30))],
    "an unknown type": [(0x9000, 99, 1, bytes(4))],
    "a count beyond the end": [(0x010E, 2, 1 << 31, struct.pack("<I", 8))],
    "a rational in the place of text": [(0x010E, 10, 1, struct.pack("<I", 8))],
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # as outside of pytest
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_other_damaged_tags_do_not_matter(tmp_path, name, suffix):
    path = tmp_path / f"odd{suffix}"
    corners().save(path, exif=exif(6, *ODD[name])[0 if suffix == ".jpg" else 6 :])
    assert pictures.default_size(path) == (4, 2)
    assert pictures.load(path, (3, 4, 2)).shape == (3, 4, 2)


def test_a_damaged_tag_causes_no_warning(tmp_path):
    path = tmp_path / "odd.jpg"
    corners().save(path, exif=exif(6, *ODD["a count beyond the end"]))
    assert said_within(path, 80) == ""


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    path = tmp_path / "odd.png"
    corners().save(path, exif=exif(orientation)[6:])
    assert pictures.default_size(path) == (2, 4)


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """What a program named gs leaves behind if it is called."""
    marker, folder = tmp_path / "called", tmp_path / "bin"
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return marker


def test_postscript_is_refused_by_name_and_no_interpreter_is_called(tmp_path, ghostscript):
    path = tmp_path / "z.png"
    path.write_bytes(POSTSCRIPT)
    with pytest.raises(DataError, match="is PostScript; expected a picture in one of") as caught:
        pictures.load(path, (3, 8, 8))
    assert caught.value.path == path
    with pytest.raises(DataError, match="is PostScript"):
        pictures.default_size(path)
    assert not ghostscript.exists()


def test_torchvision_opens_the_same_formats_only(ghostscript):
    pictures.restrict_pillow()
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(io.BytesIO(POSTSCRIPT))
    assert not ghostscript.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (bytes(128) + b"DICM" + bytes(60), "is a DICOM file"),
        (b"PK\x03\x04rest", "is a zip file"),
        (b"", "is empty"),
        (b"nothing known", "is not a picture in one of the formats PNG"),
    ],
)
def test_a_file_that_is_something_else_is_said_to_be_that(tmp_path, content, said):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        pictures.load(path, (3, 8, 8))


def test_kinds_are_told_by_their_first_bytes():
    assert kind_of_bytes(b"\n <HTML lang=en>") == "an HTML page"
    assert kind_of_bytes(b"\x89HDF\r\n\x1a\n") == "an HDF5 file"
    assert kind_of_bytes(b"anything") is None


def test_only_the_endings_of_the_formats_count_as_pictures():
    known = pictures.extensions()
    assert {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".pgm"} <= known
    assert not known & {".eps", ".ps", ".pdf", ".wmf", ".fits", ".h5", ".mpg", ".svg"}


def vast_png(path: Path, width: int, height: int) -> Path:
    """A grey PNG of a few kilobytes whose rows are all zero."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    content = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def test_a_picture_of_too_many_pixels_is_refused_without_being_decoded(tmp_path):
    said = said_within(vast_png(tmp_path / "vast.png", 13_000, 13_000), 60)
    assert "vast.png: is a picture that cannot be decoded: it has more than 50 million" in said


def test_a_strip_that_resizing_would_blow_up_is_refused(tmp_path):
    path = tmp_path / "strip.png"
    Image.new("L", (1, 3000)).save(path)
    assert "1×3000 pixels would be resized to 224×672000" in said_within(path, 60)


def said_within(path: Path, megabytes: int) -> str:
    """The error, if any, of loading a picture in a process that grows by less than this."""
    script = f"""
import resource
from pathlib import Path
from fedcli.datasets import pictures
from fedcli.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    pictures.load(Path({str(path)!r}), (3, 224, 224))
except DataError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    *said, grown = done.stdout.splitlines()
    assert int(grown) < megabytes
    assert done.stderr == ""
    return "\n".join(said)


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".png", ".webp"])
def test_a_stack_or_an_animation_is_refused(tmp_path, suffix):
    path = tmp_path / f"stack{suffix}"
    pages = [Image.new("L", (8, 8), 80 * number) for number in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="several pictures; save each") as caught:
        pictures.load(path, (1, 8, 8))
    assert caught.value.path == path


def test_a_page_of_another_size_is_a_thumbnail(tmp_path):
    path = tmp_path / "scan.tif"
    thumbnail = Image.new("L", (4, 4), 9)
    Image.new("L", (8, 8), 7).save(path, save_all=True, append_images=[thumbnail])
    assert (pictures.load(path, (1, 8, 8)) == 7).all()
