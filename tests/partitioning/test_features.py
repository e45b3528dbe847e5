"""Feature skew: what is done to each client's pictures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedcli.errors import UsageError
from fedcli.partitioning.features import Place, rotated
from fedcli.partitioning.schemes import Scheme, feature_change

HERE = Place(number=0, clients=4, seed=0, part="train", shape=(3, 8, 8))
GREY = np.full((50, 3, 8, 8), 128, np.uint8)
ALL = np.arange(50)


def noisy(place: Place, examples: np.ndarray = GREY, sigma: float = 0.01) -> np.ndarray:
    change = feature_change(Scheme("feature-noise", place.clients, sigma=sigma), place)
    assert change is not None
    return change(examples, ALL)


def turned(place: Place, examples: np.ndarray, angles: tuple[float, ...] = ()) -> np.ndarray:
    change = feature_change(Scheme("feature-rotate", place.clients, angles=angles), place)
    assert change is not None
    return change(examples, np.arange(len(examples)))


@pytest.mark.parametrize("name", ["iid", "dirichlet", "quantity"])
def test_other_schemes_leave_the_pictures_alone(name):
    assert feature_change(Scheme(name), HERE) is None


def test_the_variance_of_noise_grows_with_the_client_up_to_sigma():
    for number in range(4):
        result = noisy(replace(HERE, number=number))
        assert result.dtype == np.uint8
        found = (result / 255).var()
        expected = 0.01 * (number + 1) / 4 + 1 / 12 / 255**2  # rounding to whole values adds this
        assert abs(found / expected - 1) < 0.06  # 9600 values: its standard error is 1.5 %
        assert abs((result / 255).mean() - 128 / 255) < 0.01


def test_noise_is_clipped_to_what_a_picture_can_hold():
    result = noisy(replace(HERE, number=3), np.full_like(GREY, 255), sigma=0.5)
    # half of the values would be brighter than white
    assert 0.4 < (result == 255).mean() < 0.6
    assert result.min() < 128


def test_noise_on_other_data_is_in_its_own_unit():
    place = replace(HERE, number=3, shape=(200,))
    result = noisy(place, np.full((50, 200), 1000, np.float32), sigma=4.0)
    assert result.dtype == np.float32
    assert abs(result.std() / 2 - 1) < 0.05
    assert abs(result.mean() - 1000) < 0.1


def test_the_noise_of_an_example_is_its_own_in_whatever_order_it_is_read():
    change = feature_change(Scheme("feature-noise", 4, sigma=0.1), HERE)
    assert change is not None
    together = change(GREY, ALL)
    assert np.array_equal(change(GREY[:2], np.array([7, 3])), together[[7, 3]])
    assert len(np.unique(together.reshape(50, -1), axis=0)) == 50


@pytest.mark.parametrize("other", [{"number": 1}, {"seed": 1}, {"part": "test"}])
def test_noise_depends_on_client_seed_and_part(other):
    # of equal variance, so that only the draw can differ
    sigma = 0.01 / (1 + other.get("number", 0))
    assert np.array_equal(noisy(HERE), noisy(HERE))
    assert not np.array_equal(noisy(HERE), noisy(replace(HERE, **other), sigma=sigma))


# rotation

pictures = st.integers(0, 2**32).map(
    lambda seed: np.random.default_rng(seed).integers(0, 256, (2, 3, 6, 6), np.uint8)
)


@settings(max_examples=20)
@given(pictures, st.integers(-4, 8))
def test_quarter_turns_of_square_pictures_are_exact(examples, quarters):
    assert np.array_equal(
        rotated(examples, 90.0 * quarters), np.rot90(examples, quarters, axes=(2, 3))
    )


@settings(max_examples=20)
@given(pictures, st.sampled_from([90.0, 180.0, 270.0]))
def test_interpolation_agrees_with_the_exact_turns(examples, degrees):
    nearly = rotated(examples, degrees + 1e-6).astype(int)
    assert abs(nearly - rotated(examples, degrees)).max() <= 1


def test_any_angle_is_that_of_pillow_inside_the_picture():
    y, x = np.mgrid[:32, :32]
    picture = (120 + 60 * np.sin(x / 5) + 50 * np.cos(y / 7)).astype(np.uint8)
    ours = rotated(picture[None], 30.0)[0].astype(int)
    theirs = np.asarray(Image.fromarray(picture).rotate(30, Image.Resampling.BILINEAR), int)
    inside = (x - 15.5) ** 2 + (y - 15.5) ** 2 < 14**2
    assert abs(ours - theirs)[inside].max() <= 2
    assert ours[0, 0] == 0  # from outside


def test_oblong_pictures_keep_their_size():
    picture = np.zeros((1, 6, 10), np.uint8)
    picture[0, :, 4:6] = 200  # an upright bar
    assert np.array_equal(rotated(picture, 180.0), picture)
    lying = rotated(picture, 90.0)
    assert lying.shape == picture.shape
    assert (lying[0, 2:4, 2:8] == 200).all()
    assert lying[0, 0].max() == 0


def test_clients_are_turned_by_the_angles_in_turn_or_evenly():
    picture = np.arange(3 * 64, dtype=np.uint8).reshape(1, 3, 8, 8)
    for number in range(4):
        place = replace(HERE, number=number)
        assert np.array_equal(turned(place, picture), np.rot90(picture, number, axes=(2, 3)))
        two = turned(place, picture, (0.0, 180.0))
        assert np.array_equal(two, np.rot90(picture, 2 * (number % 2), axes=(2, 3)))


def test_what_is_no_picture_cannot_be_turned():
    with pytest.raises(UsageError, match="feature-rotate"):
        feature_change(Scheme("feature-rotate"), replace(HERE, shape=(20,)))


def test_more_angles_than_clients_are_refused():
    angles = (0.0,) * (HERE.clients + 1)
    with pytest.raises(UsageError, match=f"^--angles: expected at most {HERE.clients}, one for"):
        feature_change(Scheme("feature-rotate", HERE.clients, angles=angles), HERE)
