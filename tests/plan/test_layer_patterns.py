"""Patterns that name layers, and what does not travel because of them."""

import pytest
import torch
from torch import nn

from fedcli.algorithms.fedbn import FedBN
from fedcli.client.tensors import Tensors, with_local_layers
from fedcli.errors import UsageError
from fedcli.formats.metadata import Role
from fedcli.models import build
from fedcli.models.weights import roles_of
from fedcli.plan import TrainPlan
from fedcli.plan.layer_patterns import checked, matching, withheld
from fedcli.run.info import ModelInfo

NAMES = (
    "conv1.weight",
    "conv10.weight",
    "layer1.0.bn1.weight",
    "layer1.0.bn1.running_mean",
    "layer2.0.bn1.weight",
    "fc.weight",
    "fc.bias",
)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], ()),
        (["fc"], ("fc.weight", "fc.bias")),
        (["fc.bias"], ("fc.bias",)),
        (["conv1"], ("conv1.weight",)),
        (["conv*"], ("conv1.weight", "conv10.weight")),
        (["*.bn1"], NAMES[2:5]),
        (["layer[12]"], NAMES[2:5]),
        (["layer1", "fc.bias"], (*NAMES[2:4], "fc.bias")),
        (["*", "!fc"], NAMES[:5]),
        (["!fc", "*"], NAMES[:5]),
        (["*", "!*.weight", "!fc"], ("layer1.0.bn1.running_mean",)),
        (["!fc"], ()),
        (["FC"], ()),
    ],
)
def test_patterns_name_tensors_or_their_layers(
    patterns: list[str], expected: tuple[str, ...]
) -> None:
    assert matching(patterns, NAMES) == frozenset(expected)
    assert withheld(patterns, [], NAMES) == frozenset(expected)
    assert withheld([], patterns, NAMES) == frozenset(expected)


def test_frozen_and_local_layers_are_both_withheld() -> None:
    assert withheld(["conv1"], ["fc.bias"], NAMES) == {"conv1.weight", "fc.bias"}
    assert withheld([], [], NAMES) == frozenset()


@pytest.mark.parametrize("pattern", ["head", "!head", "conv"])
def test_a_pattern_that_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match=f"--freeze {pattern}: matches no tensor") as caught:
        checked(["fc", pattern], NAMES, "--freeze")
    assert "conv1.weight" in (caught.value.hint or "")


def test_batch_normalisation_is_found_in_a_resnet() -> None:
    module = build(ModelInfo("resnet18"), 2, (3, 32, 32), own=None, seed=0)
    layers = FedBN().local_layers(module)
    assert len(layers) == 20
    assert {"bn1", "layer2.0.downsample.1", "layer4.1.bn2"} <= set(layers)


ROLES = {"layer1.0.bn1.running_mean": Role.BUFFER}
TENSORS = dict.fromkeys(NAMES)


class LooksLikeBatchNorm(nn.Module):
    """A layer of a user's own, with a buffer of the name that BatchNorm's has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(3))


def test_fedbn_leaves_layers_of_torchs_classes_with_the_client() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.SyncBatchNorm(4),
        nn.BatchNorm2d(4, affine=False, track_running_stats=False),  # has no tensor
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.GroupNorm(2, 4),
        LooksLikeBatchNorm(),
    )
    assert FedBN().local_layers(module) == ("1", "2", "3")
    with pytest.raises(UsageError, match="--algorithm fedbn: the model has no batch norm"):
        FedBN().local_layers(module[5:])


def test_fedbn_adds_its_layers_to_those_of_the_plan() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    plan = with_local_layers(TrainPlan(algorithm="fedbn", local_layers=("2",)), module)
    assert plan.local_layers == ("2", "1")
    found = Tensors.of(plan, module.state_dict(), roles_of(module), {})
    assert {name.partition(".")[0] for name in found.local} == {"1", "2"}


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (TrainPlan(freeze=("*",)), "leave no parameter to train and send"),
        (
            TrainPlan(freeze=("*", "!*.running_mean", "!fc"), local_layers=("fc",)),
            "leave no parameter to train and send",
        ),
        (
            TrainPlan(freeze=("fc",), local_layers=("fc.bias",)),
            "--freeze and --local-layers: both name fc.bias",
        ),
    ],
)
def test_what_leaves_nothing_to_do_is_refused(plan: TrainPlan, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Tensors.of(plan, TENSORS, ROLES, {})


@pytest.mark.parametrize("option", ["freeze", "local_layers"])
def test_a_pattern_that_splits_a_tie_is_refused(option: str) -> None:
    tied = {"layer2.0.bn1.weight": "layer1.0.bn1.weight"}
    both = "'layer2.0.bn1.weight' is the same tensor as 'layer1.0.bn1.weight'"
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: {both}; name both"):
        Tensors.of(TrainPlan(**{option: ("layer2",)}), TENSORS, ROLES, tied)
    found = Tensors.of(TrainPlan(**{option: ("layer2", "layer1")}), TENSORS, ROLES, tied)
    assert set(tied) < found.withheld
    assert Tensors.of(TrainPlan(), TENSORS, ROLES, tied).withheld == set(tied)


def test_patterns_of_a_stranger_take_no_time() -> None:
    names = [f"layer{i}.{j}.bn{k}.weight" for i in range(9) for j in range(9) for k in range(9)]
    bombs = ["*" + "a*" * 240, "*" + "[!l]*" * 80, "?*" * 240, "[" * 400, "*" * 400 + "b"]
    assert matching([f"{bomb}{i}" for bomb in bombs for i in range(10)], names) == frozenset()
    layers = [name.removesuffix(".weight") for name in names]
    assert matching(layers[1:] * 100, names) == frozenset(names[1:])


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["a"], {"a.x", "a.b.x"}),
        (["a.b"], {"a.b.x"}),
        (["a.b.x"], {"a.b.x"}),
        (["a*"], {"a.x", "a.b.x", "ab.x"}),
        (["?b"], {"ab.x"}),
        (["*", "!a"], {"ab.x"}),
        (["a", "!a.[b]"], {"a.x"}),
        (["b", "x", "a.", ""], set()),
    ],
)
def test_patterns_name_tensors_and_modules(patterns: list[str], found: set[str]) -> None:
    assert matching(patterns, ["a.x", "a.b.x", "ab.x"]) == found
