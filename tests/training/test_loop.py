"""Local training: the optimizer against torch's, batches, augmentation, determinism, start-up."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from support.pages import TESTS
from support.runs import python
from torch import Tensor, nn

from fedcli.errors import DataError, FedcliError, OutOfMemoryError, UsageError
from fedcli.plan import TrainPlan
from fedcli.run.info import DatasetInfo
from fedcli.training import train
from fedcli.training.augmentation import Normalize, crop, flip
from fedcli.training.batches import slices
from fedcli.training.devices import choose_device, out_of_memory_as_error
from fedcli.training.loop import Epoch
from fedcli.training.optimizers import SGD

CPU = torch.device("cpu")
PICTURES = DatasetInfo("test", ("a", "b"), (3, 8, 8))
NORMALIZE = Normalize.for_dataset(PICTURES, as_rgb=True, device=CPU)


def small_net() -> nn.Module:

    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 5)
    return module


def pictures(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    x = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return x, (x.float().mean((1, 2, 3)) > 127.5).long()


def ignore(epoch: Epoch) -> None:
    assert epoch.seconds > 0


@pytest.mark.parametrize(
    ("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 5e-4), (0.0, 0.1)]
)
def test_sgd_takes_the_steps_of_torchs_sgd(momentum: float, weight_decay: float) -> None:
    plan = TrainPlan(lr=0.05, momentum=momentum, weight_decay=weight_decay)
    ours, theirs = small_net(), small_net()
    own = SGD(list(ours.parameters()), plan, plan.lr)
    reference = torch.optim.SGD(
        theirs.parameters(), lr=0.05, momentum=momentum, weight_decay=weight_decay
    )
    x, y = pictures(16)
    for _ in range(5):
        loss = F.cross_entropy(ours(NORMALIZE(x)), y)
        own.step(torch.autograd.grad(loss, own.parameters))
        reference.zero_grad()
        F.cross_entropy(theirs(NORMALIZE(x)), y).backward()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_sgd_with_one_gradient_for_two_parameters() -> None:
    """Autograd gives the very same tensor for both terms of a sum."""
    a, b = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimizer = SGD([a, b], TrainPlan(momentum=0.5, weight_decay=0.5), 0.5)
    for _ in range(2):
        optimizer.step(torch.autograd.grad((a + b).sum(), [a, b]))
    assert torch.equal(a, b)
    # by hand: v1 = 1 + 0.5, p1 = 1 - 0.75; v2 = 0.75 + 1 + 0.125, p2 = 0.25 - 0.9375
    assert torch.equal(a.detach(), torch.full((3,), -0.6875))


@given(st.integers(1, 300), st.integers(1, 70))
def test_batches_cover_every_example_once_and_leave_none_alone(count: int, size: int) -> None:
    parts = list(slices(count, size))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) <= size + 1
    if size > 1 and count > 1:
        assert min(lengths) > 1


def test_training_learns_and_repeats_to_the_bit() -> None:
    x, y = pictures(65)  # with batches of 64, one is left over: BatchNorm would refuse it
    results = []
    for _ in range(2):
        module = small_net()
        history = train(
            module,
            x,
            y,
            TrainPlan(epochs=8, lr=0.05, augment=("flip", "crop")),
            normalize=NORMALIZE,
            seed=3,
            on_epoch=ignore,
        )
        results.append((module.state_dict(), history))
    (first, history), (second, _) = results
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert history[-1].loss < history[0].loss
    assert [epoch.epoch for epoch in history] == list(range(1, 9))


def test_another_seed_gives_another_order() -> None:
    x, y = pictures(32)
    ends = []
    for seed in (1, 2):
        module = small_net()
        plan = TrainPlan(epochs=1, batch_size=8)
        train(module, x, y, plan, normalize=NORMALIZE, seed=seed, on_epoch=ignore)
        ends.append(module.state_dict()["0.weight"])
    assert not torch.equal(*ends)


def test_divergence_is_an_error_that_says_so() -> None:
    x, y = pictures(32)
    plan = TrainPlan(lr=1e20)
    with pytest.raises(FedcliError, match="diverged") as caught:
        train(small_net(), x, y, plan, normalize=NORMALIZE, seed=0, on_epoch=ignore)
    assert "--lr" in (caught.value.hint or "")


def test_one_example_and_batchnorm_is_an_error_that_says_so() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    x, y = pictures(1)
    with pytest.raises(DataError, match="BatchNorm cannot normalise it"):
        train(module, x, y, TrainPlan(), normalize=NORMALIZE, seed=0, on_epoch=ignore)


def test_flip_mirrors_about_half_and_changes_nothing_else() -> None:
    x, _ = pictures(400)
    flipped = flip(x, torch.Generator().manual_seed(0))
    mirrored = [bool(torch.equal(b, a.flip(-1))) for a, b in zip(x, flipped, strict=True)]
    kept = [bool(torch.equal(b, a)) for a, b in zip(x, flipped, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


def test_crop_is_a_shift_of_the_padded_picture() -> None:
    x = torch.randint(1, 256, (200, 3, 16, 24), dtype=torch.uint8)
    cropped = crop(x, torch.Generator().manual_seed(0))
    seen = set()
    for picture, result in zip(F.pad(x, (3, 3, 2, 2)), cropped, strict=True):
        windows = {
            (t, left): picture[:, t : t + 16, left : left + 24]
            for t in range(5)
            for left in range(7)
        }
        (shift,) = [key for key, window in windows.items() if torch.equal(window, result)]
        seen.add(shift)
    assert {t for t, _ in seen} == set(range(5))
    assert {left for _, left in seen} == set(range(7))


def test_normalize_of_grey_and_of_floats() -> None:
    grey = Normalize.for_dataset(DatasetInfo("t", ("a",), (1, 2, 2)), as_rgb=True, device=CPU)
    value = grey(torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8))
    assert value.shape == (1, 3, 2, 2)
    assert torch.allclose(value[0, 0], torch.tensor([[-2.0, 2.0], [-1.2, -0.4]]))
    assert torch.equal(value[0, 0], value[0, 2])
    floats = torch.randn(2, 5)
    info = DatasetInfo("t", ("a",), (5,), dtype="float32")
    assert torch.equal(Normalize.for_dataset(info, as_rgb=False, device=CPU)(floats), floats)


def _gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def _cpu() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("allocate", [_gpu, _cpu])
def test_out_of_memory_has_a_status_of_its_own(allocate: Callable[[], None]) -> None:
    with pytest.raises(OutOfMemoryError, match="out of memory") as caught:
        with out_of_memory_as_error("try --batch-size 32"):
            allocate()
    assert caught.value.hint == "try --batch-size 32"


def test_other_errors_of_torch_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        with out_of_memory_as_error(""):
            torch.zeros(2) + torch.zeros(3)


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        choose_device(name)


def test_training_imports_neither_torchvision_nor_dynamo() -> None:
    """They take longer to import than all else together; only ``--compile`` is worth dynamo."""
    code = """
import sys
from dataclasses import replace
import torch
import fedcli.steps.train_client, fedcli.steps.evaluate, fedcli.evaluation.scorer
from fedcli.algorithms import ALGORITHMS
from fedcli.training.devices import Portions
from fedcli.models import build
from fedcli.plan import TrainPlan
from fedcli.run.info import ModelInfo
from fedcli.client.local_training import Tensors
from fedcli.training.forward import predict
from support.networks import NORMALIZE, assignment, pictures, trained

def network(name):
    return build(ModelInfo(name), 2, (3, 8, 8), own=None, seed=0)

plan = TrainPlan(epochs=1, batch_size=4)
plans = [replace(plan, algorithm=name) for name in ALGORITHMS if name != "fedbn"]
plans += [replace(plan, optimizer=name, clip_grad=1.0) for name in ("adam", "adamw")]
plans += [replace(plan, precision=name, mixup=0.5) for name in ("bf16", "fp16")]
plans += [replace(plan, augment=("flip", "crop", "cutout"), label_smoothing=0.1)]
for each in plans:
    trained(assignment(each, network("linear"), 4))
trained(assignment(plan, network("resnet18"), 4, micro_batch=2))
trained(assignment(plan, network("cnn"), 4))
predict(network("cnn"), pictures(4)[0], NORMALIZE, Portions(2, torch.device("cpu")))
print([name for name in ("torchvision", "torch._dynamo") if name in sys.modules])
"""
    done = python(code, cwd=TESTS)
    assert done.out.strip() == "[]", done.err
