"""A member's step, shortened to C on the grid, and its part of the noise of the sum."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
from support.masking import Members, masking_key, private_bytes

from fedcli.errors import UsageError
from fedcli.masking.cohort import MaskedRound
from fedcli.masking.masks import Integers, add_masks
from fedcli.masking.noise import add_noise, shortened
from fedcli.masking.pairwise import Agreement
from fedcli.masking.quantise import Grid
from fedcli.masking.secrets import Secret
from fedcli.masking.unmasking import masks_to_remove
from fedcli.plan.masked_noise import MaskedNoise

NAMES = ["a", "b", "c", "d", "e"]
SIZE = 1000
SIGNIFICANT = 5.0  # standard deviations, of a draw that is the same in every run of the tests


def grid_and_noise(clip: float, bits: int, sigma: float, norm: float = 1.0, parties: int = 4):
    grid = Grid(clip, bits, len(NAMES))
    return grid, MaskedNoise(norm, sigma, parties, grid.step)


def length(values: Integers) -> int:
    """The exact square of the norm of integers."""
    return sum(int(v) * int(v) for v in values)


HALVES = np.float32([0.5, 1.5, -0.5, 2.5, -3.5] * (SIZE // 5))  # all are rounded away by a half


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("zero", np.zeros(SIZE, np.float32)),
        ("tiny", np.full(SIZE, 1e-38, np.float32)),
        ("huge", np.full(SIZE, 1e38, np.float32)),
        ("one huge value", np.float32([3e38] + [0] * (SIZE - 1))),
        ("infinite", np.float32([np.inf] * SIZE)),
        ("NaN", np.float32([np.nan] + [1] * (SIZE - 1))),
        ("random", np.random.default_rng(1).normal(size=SIZE).astype(np.float32)),
        ("just C", np.full(SIZE, 1 / math.sqrt(SIZE), np.float32)),
        ("halves", HALVES / 2**9),
        ("as coarse as allowed", HALVES / 31),
    ],
)
@pytest.mark.parametrize("bits", [6, 7, 10, 20, 28])
def test_no_step_of_any_member_is_longer_than_c(name: str, step: np.ndarray, bits: int) -> None:
    grid, noise = grid_and_noise(1.0, bits, 1.0)
    found = shortened(grid, noise, step).values
    assert length(found) <= (noise.clip / grid.step) ** 2
    if name in ("infinite", "NaN", "zero"):
        assert not found.any()


def test_rounding_alone_would_make_a_step_longer_than_c() -> None:
    """Or the test above proved nothing."""
    grid, noise = grid_and_noise(1.0, 6, 1.0)
    step = np.float32([27.6] + [0.51] * (SIZE - 1)) * np.float32(grid.step)
    assert np.linalg.norm(step) < noise.clip
    assert length(grid.quantise(step).values) > noise.radius**2
    assert length(shortened(grid, noise, step).values) <= noise.radius**2


def test_short_steps_are_only_rounded() -> None:
    grid, noise = grid_and_noise(0.5, 24, 1.0)
    step = np.random.default_rng(2).normal(scale=0.01, size=SIZE).astype(np.float32)
    assert np.array_equal(shortened(grid, noise, step).values, grid.quantise(step).values)


def test_long_steps_keep_their_direction() -> None:
    grid, noise = grid_and_noise(1.0, 24, 1.0)
    step = np.random.default_rng(3).normal(size=SIZE).astype(np.float32)
    found = shortened(grid, noise, step).values * grid.step
    assert np.allclose(found, step / np.linalg.norm(step), atol=1e-5)
    assert 0.99999 < np.linalg.norm(found) <= 1


def test_a_grid_that_is_too_coarse_is_refused() -> None:
    grid, noise = grid_and_noise(1.0, 5, 1.0)
    with pytest.raises(UsageError, match=r"--secagg-bits: rounding 1000 values may lengthen"):
        shortened(grid, noise, np.zeros(SIZE, np.float32))


def agreement(member: str = "a", round_: int = 1) -> Agreement:
    members = Members(NAMES, MaskedRound("0" * 64, round_, 1))
    return members.agreements[member]


def test_the_noise_of_one_member_has_its_part_of_the_variance() -> None:
    _, noise = grid_and_noise(1.0, 20, 0.5)
    count = 1_000_000
    drawn = add_noise(noise, agreement(), np.zeros(count, np.int32)).astype(float)
    std = 0.5 * noise.radius / math.sqrt(4)
    square = float(((drawn / std) ** 2).sum())
    assert abs(square - count) < SIGNIFICANT * math.sqrt(2 * count)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return abs(float(np.corrcoef(one, other)[0, 1])) * math.sqrt(one.size)


def test_noise_is_the_same_for_the_same_integers_and_independent_for_all_else() -> None:
    _, noise = grid_and_noise(1.0, 20, 0.5)
    values = np.zeros(20_000, np.int32)
    other = values.copy()
    other[7] = 1
    drawn = add_noise(noise, agreement(), values)
    assert np.array_equal(drawn, add_noise(noise, agreement(), values.copy()))
    key = masking_key(private_bytes("another key"))
    mine = agreement()
    for elsewhere in (
        add_noise(noise, agreement(), other) - other,
        add_noise(noise, agreement("b"), values),
        add_noise(noise, agreement(round_=2), values),
        add_noise(noise, Agreement.of(mine.cohort, "a", key), values),
    ):
        assert correlation(drawn, elsewhere) < SIGNIFICANT


def test_no_noise_leaves_the_integers_alone() -> None:
    _, noise = grid_and_noise(1.0, 20, 0.0)
    values = np.arange(-5, 5, dtype=np.int32)
    assert add_noise(noise, agreement(), values) is values


@pytest.mark.parametrize("survivors", [NAMES, NAMES[:4]])
def test_the_opened_sum_has_the_noise_of_its_survivors(survivors: list[str]) -> None:
    """σ²C² times the number of survivors over t, on every coordinate, once masks are off."""
    grid, noise = grid_and_noise(1.0, 20, 2.0)
    rng, members = np.random.default_rng(4), Members(NAMES)
    steps = {name: rng.normal(size=200_000).astype(np.float32) for name in NAMES}
    plain = {name: shortened(grid, noise, step).values for name, step in steps.items()}
    members.deliver(
        {name: add_noise(noise, members.agreements[name], values) for name, values in plain.items()}
    )
    total = np.sum([members.masked[name].words for name in survivors], axis=0, dtype=np.uint32)
    answers = [members.answer(name, survivors) for name in NAMES[:4]]
    committed = {name: members.sealed[name].commitments for name in survivors}
    add_masks(total, masks_to_remove(members.cohort, committed, answers))
    left = total.view(np.int32) - np.sum([plain[name] for name in survivors], axis=0)
    variance = (2.0 * noise.radius) ** 2 * len(survivors) / 4
    square = float((left.astype(float) ** 2).sum() / variance)
    assert abs(square - left.size) < SIGNIFICANT * math.sqrt(2 * left.size)
    assert abs(left.mean()) < SIGNIFICANT * math.sqrt(variance / left.size)
    assert np.abs(left).max() < noise.most(len(survivors))


def test_the_draws_of_members_add_up_to_one_draw_of_the_whole_variance() -> None:
    """Even on the coarsest grid that a plan may have: the accountant counts on it."""
    noise = MaskedNoise(clip=1.0, sigma=8.0, parties=4, step=1.0)
    assert math.sqrt(noise.variance) == 4  # the least allowed
    count, most = 500_000, 40
    members = Members(NAMES)
    draws = (
        add_noise(noise, members.agreements[name], np.zeros(count, np.int32)) for name in NAMES[:4]
    )
    total = np.sum(list(draws), axis=0)
    values = np.arange(-200, 201)
    weights = np.exp(-(values.astype(float) ** 2) / (2 * 8.0**2))
    shares = weights[np.abs(values) <= most] / weights.sum()
    found = np.bincount(total[np.abs(total) <= most] + most, minlength=2 * most + 1)
    square = float(((found - count * shares) ** 2 / (count * shares)).sum())
    assert abs(square - shares.size) < SIGNIFICANT * math.sqrt(2 * shares.size)


def test_whoever_knows_all_but_one_key_is_left_with_the_noise_of_that_member() -> None:
    """t − 1 members in league with the coordinator, who even know the step that they look for."""
    _, noise = grid_and_noise(1.0, 20, 2.0)
    members, count = Members(NAMES), 100_000
    steps = {name: np.full(count, number, np.int32) for number, name in enumerate(NAMES[:4])}
    total = np.sum(
        [add_noise(noise, members.agreements[name], step) for name, step in steps.items()], axis=0
    )
    for name in "bcd":  # which they can take off
        total = total - add_noise(noise, members.agreements[name], steps[name])
    left = (total - steps["a"]).astype(float)
    variance = float(noise.variance)
    square = float((left**2).sum()) / variance
    assert abs(square - count) < SIGNIFICANT * math.sqrt(2 * count)
    assert math.isclose(variance, (2.0 * noise.radius) ** 2 / 4)
    where = members.cohort.where
    known = [private_bytes(name) for name in "bcde"]
    known += [bytes(32), hashlib.sha256(where.run.encode()).digest(), bytes.fromhex(where.run)]
    known += [secret.value for secret in members.agreements["b"].with_others.values()]
    for guess in known:
        stranger = replace(members.agreements["a"], own=Secret(guess))
        assert correlation(left, add_noise(noise, stranger, steps["a"])) < SIGNIFICANT
