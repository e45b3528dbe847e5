"""Words as people type them: other spellings of what is known, and near misses."""

import pytest

from fedcli.run.model_names import model_names
from fedcli.spelling import did_you_mean, folded, nearest, respelled

KNOWN = ("fedavg", "trimmed-mean", "cifar10", "npz:", "topk=", "balanced_accuracy")


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("FedAvg", "fedavg"),
        ("trimmed_mean", "trimmed-mean"),
        ("Trimmed Mean", "trimmed-mean"),
        ("CIFAR-10", "cifar10"),
        ("NPZ:/Data/A_b.npz", "npz:/Data/A_b.npz"),
        ("TopK=0.1,float16", "topk=0.1,float16"),
        ("balanced-accuracy", "balanced_accuracy"),
    ],
)
def test_another_spelling_is_the_known_word(typed: str, known: str) -> None:
    assert respelled(typed, KNOWN) == known


@pytest.mark.parametrize("typed", ["fedavgs", "npz", "my_package.Models:FedAvg", "", "/Data/npz:x"])
def test_another_word_stays_as_it_is(typed: str) -> None:
    assert respelled(typed, KNOWN) == typed


def test_two_words_that_differ_by_separators_alone_are_not_confused() -> None:
    names = model_names()
    assert folded("regnet_x_16gf") == folded("regnet_x_1_6gf")
    assert respelled("RegNet_X_1_6GF", names) == "regnet_x_1_6gf"
    assert respelled("regnetx16gf", names) == "regnetx16gf"
    assert respelled("ResNet-50", names) == "resnet50"


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("fedagv", "fedavg"),
        ("trim", "trimmed-mean"),
        ("cifar", "cifar10"),
        ("npx", "npz:"),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_a_mistyped_word_is_most_like_one(typed: str, near: str | None) -> None:
    assert nearest(typed, KNOWN) == near
    assert did_you_mean(typed, KNOWN) == (None if near is None else f"did you mean {near}?")
