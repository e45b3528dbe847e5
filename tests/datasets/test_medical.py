"""DICOM files and NIfTI slices among the pictures of a folder."""

import importlib.util
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.nifti1 import Nifti1Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from fedcli.datasets import DataOptions, load_dataset, pictures
from fedcli.datasets.own import open_examples
from fedcli.errors import DataError, MissingDependencyError, UsageError
from fedcli.progress import Silence
from fedcli.run.info import DatasetInfo

INFO = DatasetInfo("own", ("a", "b"), (3, 8, 8))
HU = (-1000.0, 400.0)


def dicom(path: Path, pixels: np.ndarray, **tags: object) -> Path:
    """A DICOM file; ``pixels`` are stored values."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    bits = 8 * pixels.dtype.itemsize
    colours = pixels.ndim == 3 and pixels.shape[2] == 3
    values = {
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 3 if colours else 1,
        "PhotometricInterpretation": "RGB" if colours else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
        **({"PlanarConfiguration": 0} if colours else {}),
        **tags,
    }
    for name, value in values.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return path


def test_stored_values_become_hounsfield_units_and_these_the_window(tmp_path):
    stored = np.array([[0, 24, 724], [1424, 2000, 4095]], np.uint16)
    path = dicom(tmp_path / "a.dcm", stored, RescaleSlope=1, RescaleIntercept=-1024, BitsStored=12)
    assert pictures.default_size(path) == (2, 3)
    found = pictures.load(path, (3, 2, 3), HU)
    assert found.tolist() == [[[0, 0, 128], [255, 255, 255]]] * 3


def test_signed_values_and_a_slope(tmp_path):
    path = dicom(tmp_path / "a.dcm", np.array([[-500, 200]], np.int16), RescaleSlope=2)
    assert pictures.load(path, (1, 1, 2), HU).tolist() == [[[0, 255]]]


def test_monochrome1_is_inverted_after_the_window(tmp_path):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12}
    path = dicom(tmp_path / "a.dcm", np.array([[0, 4095]], np.uint16), **tags)
    assert pictures.load(path, (1, 1, 2), (0, 4095)).tolist() == [[[255, 0]]]
    path = dicom(tmp_path / "b.dcm", np.array([[0, 100]], np.uint8), **tags | {"BitsStored": 8})
    assert pictures.load(path, (1, 1, 2)).tolist() == [[[255, 155]]]


def test_without_a_window_the_range_that_the_file_may_have_is_proposed(tmp_path):
    tags = {"RescaleIntercept": -1024, "BitsStored": 12}
    path = dicom(tmp_path / "a.dcm", np.array([[5, 6]], np.uint16), **tags)
    with pytest.raises(DataError, match="numbers that may be from -1024 to 3071") as caught:
        pictures.load(path, (1, 1, 2))
    assert "--window -1024,3071" in (caught.value.hint or "")


def test_eight_bits_and_colours_are_pictures_as_they_are(tmp_path):
    path = dicom(tmp_path / "a.dcm", np.array([[0, 200]], np.uint8))
    assert pictures.load(path, (1, 1, 2)).tolist() == [[[0, 200]]]
    path = dicom(tmp_path / "b.dcm", np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert pictures.load(path, (3, 1, 2)).tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"NumberOfFrames": 2, "PixelData": bytes(8)}, "2 frames; save each slice"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000×60000 values; expected at most 50 million"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"PixelData": b""}, "cannot be decoded"),
    ],
)
def test_what_is_no_single_picture_is_refused(tmp_path, tags, said):
    path = dicom(tmp_path / "a.dcm", np.array([[0, 200]], np.uint16), **tags)
    with pytest.raises(DataError, match=said) as caught:
        pictures.load(path, (1, 1, 2), HU)
    assert caught.value.path == path


@pytest.mark.parametrize("name", ["a.dcm", "a.nii", "a.nii.gz"])
def test_damaged_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        pictures.load(tmp_path / name, (1, 1, 2), HU)
    assert caught.value.path == tmp_path / name


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_nifti_slice_is_turned_upright(tmp_path, name):
    values = np.array([[[-1000], [400]], [[-300], [-300]], [[0], [3000]]], np.int16)
    nibabel.save(Nifti1Image(values, np.eye(4)), tmp_path / name)
    found = pictures.load(tmp_path / name, (1, 2, 3), HU)
    assert found.tolist() == [[[255, 128, 255], [0, 128, 182]]]
    mirrored = Nifti1Image(values[::-1], np.diag([-1, 1, 1, 1]))
    nibabel.save(mirrored, tmp_path / name)
    assert np.array_equal(pictures.load(tmp_path / name, (1, 2, 3), HU), found)


def test_a_nifti_volume_is_refused_with_what_to_do(tmp_path):
    nibabel.save(Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match="a volume of 4×5×6 values; save each slice"):
        pictures.load(tmp_path / "a.nii.gz", (1, 4, 5), HU)


def test_folders_of_dicom_files_of_any_name_are_data_sets(tmp_path):
    names = ("1.dcm", "IM0002", "1.2.840.3", "x.nii.gz")
    for label in ("benign", "malignant"):
        (tmp_path / label).mkdir()
        for name in names[:3]:
            dicom(tmp_path / label / name, np.array([[0, 1000]] * 2, np.int16))
        values = np.array([[[0]], [[1000]]], np.int16)
        nibabel.save(Nifti1Image(np.repeat(values, 2, 1), np.eye(4)), tmp_path / label / names[3])
    data = load_dataset(f"imagefolder:{tmp_path}", DataOptions(window="0,1000"))
    assert len(data.train.labels) + len(data.test.labels) == 8
    found = data.train.read(np.arange(len(data.train.labels)))
    assert (found == np.array([[0, 255], [0, 255]], np.uint8)).all()


@pytest.mark.parametrize(("name", "package"), [("a.dcm", "pydicom"), ("a.nii", "nibabel")])
def test_without_the_extra_the_message_says_what_to_install(tmp_path, monkeypatch, name, package):
    (tmp_path / name).write_bytes(b"anything")
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None)
    with pytest.raises(MissingDependencyError, match=f"needs the package {package}") as caught:
        pictures.load(tmp_path / name, (1, 1, 2))
    assert caught.value.hint == "pip install 'fedcli[medical]', or convert such files to PNG"
    assert pydicom.__version__


OTHERS = {
    "x.parquet": (b"PAR1" + bytes(99), "is a Parquet file", "numpy.savez"),
    "x.h5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", "numpy.savez"),
    "x.npy": (b"\x93NUMPY\x01\0", "is a numpy array", "numpy.savez"),
    "x.mat": (b"MATLAB 5.0 MAT-file", "is a MATLAB file", "numpy.savez"),
    "x.tar": (bytes(257) + b"ustar", "is a tar file", "tar -xf"),
    "x.tar.gz": (b"\x1f\x8b\x08", "is a tar file", "tar -xf"),
    "x.nii.gz": (b"\x1f\x8b\x08", "is a NIfTI file", "folders of classes"),
    "x.dcm": (bytes(128) + b"DICM", "is a DICOM file", "folders of classes"),
    "x.csv": (b"image,label\n", "is a table", "--labels-csv"),
    "x.npz": (b"<html>not found", "is an HTML page", "download it again"),
    "x.bin": (b"anything", "of an unknown kind", "for pictures"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("reader", ["npz", "imagefolder"])
def test_a_file_of_another_kind_is_said_to_be_that_with_what_to_do(tmp_path, name, reader):
    content, said, hint = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        load_dataset(f"{reader}:{tmp_path / name}", DataOptions())
    assert hint in (caught.value.hint or "")
    assert caught.value.path == tmp_path / name
    with pytest.raises(DataError, match=said):
        open_examples(str(tmp_path / name), INFO, "train", Silence())


def test_a_zip_file_of_pictures_is_to_be_unpacked(tmp_path):
    path = tmp_path / "my data.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("train/a/1.png", b"")
    with pytest.raises(DataError, match="is a zip file; expected an npz file") as caught:
        load_dataset(f"npz:{path}", DataOptions())
    assert caught.value.hint == f"unpack it, and name the folder: unzip '{path}'"


def test_a_folder_of_other_files_says_which(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"found none, but files of these kinds: \.parquet"):
        load_dataset(f"imagefolder:{tmp_path}", DataOptions())


def test_a_path_without_the_name_of_a_reader_is_told_the_name(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_dataset(str(tmp_path), DataOptions())
    assert caught.value.hint == f"--dataset imagefolder:{tmp_path}"
