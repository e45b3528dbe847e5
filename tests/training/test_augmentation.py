"""Cut-out, mixup and label smoothing against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from support.networks import NORMALIZE, pictures
from torch import Tensor

from fedcli.plan import TrainPlan
from fedcli.plan.choices import AUGMENTATIONS
from fedcli.training.augmentation import (
    AUGMENT,
    AUGMENT_NORMALIZED,
    Targets,
    cutout,
    mixup,
    prepare,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_augmentation_of_the_catalogue_has_its_code() -> None:
    assert set(AUGMENTATIONS) == {*AUGMENT, *AUGMENT_NORMALIZED}


def test_cut_out_is_one_square_around_any_pixel() -> None:
    x = torch.ones(600, 2, 12, 8)
    result = cutout(x, seeded())
    centers = set()
    for picture in result:
        assert torch.equal(picture[0], picture[1])
        holes = picture[0] == 0
        rows, columns = holes.any(1).nonzero()[:, 0], holes.any(0).nonzero()[:, 0]
        assert holes.sum() == len(rows) * len(columns)
        top, left = int(rows[0]), int(columns[0])
        assert torch.equal(rows, torch.arange(top, top + len(rows)))
        assert torch.equal(columns, torch.arange(left, left + len(columns)))
        # half of the picture's size, less what lies outside of it
        assert len(rows) == 6 or top == 0 or top + len(rows) == 12
        assert len(columns) == 4 or left == 0 or left + len(columns) == 8
        assert 3 <= len(rows) <= 6
        assert 2 <= len(columns) <= 4
        centers.add((top, len(rows), left, len(columns)))
    assert len(centers) == 12 * 8
    assert torch.equal(x, torch.ones(600, 2, 12, 8))


def test_cut_out_fills_with_the_mean_of_normalised_pictures() -> None:
    x, y = pictures(8)
    inputs, _ = prepare(x, y, TrainPlan(augment=("cutout",)), NORMALIZE, seeded())
    plain, _ = prepare(x, y, TrainPlan(), NORMALIZE, seeded())
    changed = inputs != plain
    assert changed.any()
    assert inputs[changed].unique().tolist() == [0.0]


@given(st.integers(2, 40), st.floats(0.05, 10), st.integers(0, 1000))
def test_mixup_blends_each_example_with_another(count: int, alpha: float, seed: int) -> None:
    x = F.one_hot(torch.arange(count), count).double()
    mixed, targets = mixup(x, torch.arange(count), alpha, seeded(seed))
    assert targets.others is not None
    assert sorted(targets.others.tolist()) == list(range(count))
    for row, mine, other in zip(mixed, targets.labels, targets.others, strict=True):
        expected = targets.share * x[mine] + (1 - targets.share) * x[other]
        torch.testing.assert_close(row, expected)


def test_the_shares_of_mixup_have_the_mean_and_variance_of_a_beta() -> None:
    generator = seeded()
    x, y = torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)
    shares = torch.tensor([mixup(x, y, 0.4, generator)[1].share for _ in range(4000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.1)


def soft(labels: Tensor, smoothing: float) -> Tensor:
    """(1 - ε) y + ε / K (Szegedy et al. 2016, section 7)."""
    return (1 - smoothing) * F.one_hot(labels, 5).double() + smoothing / 5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_blended_smoothed_labels(smoothing: float) -> None:
    generator = seeded()
    logits = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    labels, others = (torch.randint(0, 5, (7,), generator=generator) for _ in range(2))
    plain, mixed = Targets(labels), Targets(labels, others, 0.3)
    assert plain.loss(logits, smoothing).item() == pytest.approx(
        F.cross_entropy(logits, soft(labels, smoothing)).item()
    )
    blended = 0.3 * soft(labels, smoothing) + 0.7 * soft(others, smoothing)
    expected = F.cross_entropy(logits, blended).item()
    assert mixed.loss(logits, smoothing).item() == pytest.approx(expected)
    parts = [
        mixed[part].loss(logits[part], smoothing) * n
        for part, n in ((slice(0, 3), 3), (slice(3, 7), 4))
    ]
    assert (torch.stack(parts).sum() / 7).item() == pytest.approx(expected)


def test_draws_are_of_the_generator_alone() -> None:
    plan = TrainPlan(augment=("flip", "crop", "cutout"), mixup=0.4)
    x, y = pictures(20)
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        inputs, targets = prepare(x, y, plan, NORMALIZE, seeded())
        results.append((inputs, targets))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1].share == results[1][1].share
