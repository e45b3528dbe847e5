"""DICOM files and NIfTI slices as pictures: values in their unit, such as Hounsfield units.

A picture comes out as ``L`` or ``RGB`` if its file has 8 bits in no unit, else as ``F``: stored
values times slope plus intercept. Only a window, which belongs to the run, makes it 8 bits; the
display settings in a file are not used, as they differ between files. Source: DICOM PS3.3, C.7.6.3
and C.11.1; the NIfTI-1 header.
"""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedcli.errors import MissingDependencyError
from fedcli.formats.dtypes import Array

ENDINGS = (".dcm", ".dicom", ".nii", ".nii.gz")
INVERTED = "fedcli.inverted"  # in ``info`` of a picture: its greatest value is black
RANGE = "fedcli.range"  # and the least and the greatest value that it may hold
_NIFTI = (".nii", ".nii.gz")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_SLICES = "save each slice that counts as a file of its own, for example as PNG"


def open_picture(path: Path, most_pixels: int) -> Image.Image:
    """Read a DICOM file, or a NIfTI file of one slice.

    Raises ``MissingDependencyError``, and ``ValueError`` and what the libraries raise for a file
    that is damaged, a volume, or has too many pixels.
    """
    if path.name.lower().endswith(_NIFTI):
        _need("nibabel", path)
        return _nifti(path, most_pixels)
    _need("pydicom", path)
    return _dicom(path, most_pixels)


def _need(package: str, path: Path) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingDependencyError(
            f"reading it needs the package {package}",
            hint="pip install 'fedcli[medical]', or convert such files to PNG",
            path=path,
        )


def _check_size(shape: tuple[int, ...], most_pixels: int) -> None:
    if math.prod(shape) > most_pixels:
        raise ValueError(
            f"it has {'×'.join(map(str, shape))} values; expected at most"
            f" {most_pixels // 1_000_000} million"
        )


def _dicom(path: Path, most_pixels: int) -> Image.Image:
    import pydicom

    file = pydicom.dcmread(path)
    if "PixelData" not in file:
        raise ValueError("it is a DICOM file without pixels")
    frames = int(file.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"it holds {frames} frames; {_SLICES}")
    _check_size((int(file.Rows), int(file.Columns)), most_pixels)
    if file.PhotometricInterpretation in _COLOURS:
        return _colours(file)
    if file.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"it has pixels of the kind {file.PhotometricInterpretation}")
    image = _grey(file)
    if file.PhotometricInterpretation == "MONOCHROME1":
        image.info[INVERTED] = True
    return image


def _colours(file: Any) -> Image.Image:
    from pydicom.pixels.utils import pixel_array

    pixels = pixel_array(file)  # converted to RGB
    if pixels.dtype != np.uint8:
        raise ValueError("it has 16-bit colours; convert it to 8 bits")
    return Image.fromarray(pixels)


def _grey(file: Any) -> Image.Image:
    if "ModalityLUTSequence" in file:
        raise ValueError("it has a modality look-up table; convert it to PNG")
    slope = float(file.get("RescaleSlope") or 1)
    intercept = float(file.get("RescaleIntercept") or 0)
    stored: Array = file.pixel_array
    signed, bits = bool(file.PixelRepresentation), int(file.BitsStored)
    if (slope, intercept, signed, bits) == (1.0, 0.0, False, 8):
        return Image.fromarray(stored.astype(np.uint8))
    image = Image.fromarray((stored * slope + intercept).astype(np.float32))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    image.info[RANGE] = (ends[0], ends[1])
    return image


def _axes(file: Any) -> Array:
    from nibabel.orientations import io_orientation

    orientation: Any = io_orientation
    axes: Array = orientation(file.affine)  # to the right, to the front and to the head
    return axes


def _nifti(path: Path, most_pixels: int) -> Image.Image:
    import nibabel

    file: Any = nibabel.load(path)
    shape = tuple(size for size in file.shape if size != 1)
    if len(shape) > 2:
        raise ValueError(f"it is a volume of {'×'.join(map(str, file.shape))} values; {_SLICES}")
    _check_size(file.shape, most_pixels)
    values = np.asanyarray(file.as_reoriented(_axes(file)).dataobj)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"it holds values of the kind {values.dtype}")
    values = np.squeeze(values)
    if values.ndim != 2:
        raise ValueError(f"it holds {file.shape} values; expected a slice of two axes")
    # The first axis runs to the right and the second upwards; a picture has rows from the top.
    return Image.fromarray(np.ascontiguousarray(np.rot90(values)).astype(np.float32))
