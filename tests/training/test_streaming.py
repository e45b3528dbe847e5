"""Examples decoded on the way are those that would be held in memory."""

import gc
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.runs import python
from torch import Tensor

from fedcli.client.existing_update import fingerprint
from fedcli.datasets import Part, load_examples, open_examples
from fedcli.datasets.shards import Examples
from fedcli.errors import DataError
from fedcli.progress import Silence
from fedcli.run.info import DatasetInfo
from fedcli.training.batches import InMemory
from fedcli.training.streaming import Streamed

CPU = torch.device("cpu")
INFO = DatasetInfo("own", ("ant", "bee"), (3, 9, 7))
both = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture(autouse=True)
def no_workers_are_left() -> Iterator[None]:
    """Workers end with their test, not while the process of all tests ends."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def forks() -> Iterator[None]:
    """Python 3.12 warns of forks beside threads; the workers' threads are their own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of all sizes, of three formats, the last of which is not exact."""
    rng = np.random.default_rng(0)
    for number in range(23):
        height, width = rng.integers(5, 40, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        name = f"{INFO.classes[number % 3 // 2]}/{number}.{('png', 'bmp', 'jpg')[number % 3]}"
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path


def opened(folder: Path) -> Part:
    return open_examples(str(folder), INFO, "train", Silence())


def loaded(folder: Path) -> Examples:
    return load_examples(str(folder), INFO, "train", Silence())


def epochs(count: int, size: int, epochs: int) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(count, generator=generator) for _ in range(epochs)]
    return [list(torch.split(order, size)) for order in orders]


@both
def test_batches_are_those_of_the_examples_in_memory(folder: Path, workers: int) -> None:
    examples = loaded(folder)
    held = InMemory(torch.from_numpy(examples.x), torch.from_numpy(examples.y), CPU)
    source = Streamed(opened(folder), CPU, workers)
    assert len(source) == len(held) == 23
    for batches in epochs(23, 5, epochs=3):
        pairs = zip(source.epoch(batches), held.epoch(batches), strict=True)
        for (x, y), (x_held, y_held) in pairs:
            assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
            assert torch.equal(x, x_held)
            assert torch.equal(y, y_held)


@both
def test_an_epoch_that_was_left_off_does_not_leak_into_the_next(folder: Path, workers: int) -> None:
    examples, source = loaded(folder), Streamed(opened(folder), CPU, workers)
    first, second = epochs(23, 3, epochs=2)
    started = source.epoch(first)
    next(started), next(started)
    started.close()
    found = [y for _, y in source.epoch(second)]
    assert torch.equal(torch.cat(found), torch.from_numpy(examples.y)[torch.cat(second)])


@both
def test_the_fingerprint_is_that_of_the_examples_in_memory(folder: Path, workers: int) -> None:
    source = Streamed(opened(folder), CPU, workers)
    assert source.fingerprint(Silence()) == fingerprint(loaded(folder))


def test_arrays_can_be_streamed_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 256, (9, 9, 7, 3), np.uint8), y=np.arange(9) % 2)
    source = Streamed(opened(tmp_path / "a.npz"), CPU, 0)
    assert source.fingerprint(Silence()) == fingerprint(loaded(tmp_path / "a.npz"))


@both
def test_a_picture_that_does_not_decode_is_named(folder: Path, workers: int) -> None:
    source = Streamed(opened(folder), CPU, workers)
    broken = sorted(folder.rglob("*.png"))[3]
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=str(broken)) as caught:
        source.fingerprint(Silence())
    assert "\n" not in caught.value.message


DEATH = """
import os, signal
import numpy as np, torch
from fedcli.datasets import Part
from fedcli.errors import FedcliError
from fedcli.training.streaming import Streamed

parent = os.getpid()

def read(indices):
    if os.getpid() != parent and 20 in indices:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.zeros((len(indices), 3, 2, 2), np.uint8)

source = Streamed(Part(np.zeros(23, np.int64), read), torch.device("cpu"), 1)
try:
    list(source.epoch(list(torch.arange(23).split(4))))
except FedcliError as error:
    print(error.message, error.hint, flush=True)
os._exit(0)  # as the program leaves
"""


def test_a_worker_that_dies_is_a_failure_that_says_what_to_try() -> None:
    # a process of its own: torch's handler may speak up once more when any later child ends
    found = python(DEATH)
    assert found.status == 0
    assert found.out.startswith("--num-workers: a worker died: ")
    assert "--num-workers 0" in found.out


def test_nothing_is_drawn_from_the_global_generator(folder: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(Streamed(opened(folder), CPU, 0).epoch([torch.arange(4)]))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_part_of_a_folder_can_be_sent_to_a_process_that_was_not_forked(folder: Path) -> None:
    part = opened(folder)
    again = pickle.loads(pickle.dumps(part))
    chosen = np.array([4, 0, 22])
    assert np.array_equal(again.read(chosen), part.read(chosen))
    assert np.array_equal(again.labels, part.labels)


def test_no_more_than_the_batches_in_flight_is_decoded(folder: Path) -> None:
    part, decoded = opened(folder), list[int]()

    def read(indices: np.ndarray) -> np.ndarray:
        decoded.extend(indices)
        return part.read(indices)

    batches = Streamed(Part(part.labels, read), CPU, 0).epoch(list(torch.arange(23).split(4)))
    next(batches)
    assert decoded == [0, 1, 2, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_arrive_on_the_gpu(folder: Path) -> None:
    examples = loaded(folder)
    source = Streamed(opened(folder), torch.device("cuda"), 2)
    for batch, (x, y) in zip(epochs(23, 5, 1)[0], source.epoch(epochs(23, 5, 1)[0]), strict=True):
        assert x.is_cuda
        assert torch.equal(x.cpu(), torch.from_numpy(examples.x)[batch])
        assert torch.equal(y.cpu(), torch.from_numpy(examples.y)[batch])
    assert source.fingerprint(Silence()) == fingerprint(examples)
