"""Starting from given weights: a last layer for other classes, and layers that are left alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.runs import fedcli
from torch import nn

from fedcli.datasets.shards import read_shard
from fedcli.errors import BadInputError, UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.models import build
from fedcli.models.weights import initial_tensors, load_arrays
from fedcli.plan import Plan, TrainPlan
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.aggregate import aggregate
from fedcli.steps.partition import partition
from fedcli.steps.train_client import train_client

RGB = (3, 64, 64)
RESNET = ModelInfo("resnet18")
HEADS = {
    "resnet18": "fc",
    "cnn": "out",
    "linear": "fc",
    "mobilenet_v3_small": "classifier.3",
    "squeezenet1_1": "classifier.1",  # a convolution
    "shufflenet_v2_x0_5": "fc",
}


def last_layer_is_new(name: str, last: str, path: Path) -> None:
    """Take over a model of five classes for two: all is kept but the last layer, which is fresh."""
    info, own = ModelInfo(name), name if ":" in name else None
    given = build(info, 5, RGB, own=own, seed=9).state_dict()
    save_file(given, path)
    model = initial_tensors(info, 2, RGB, 0, init_from=path, own_factory=own)
    fresh = initial_tensors(info, 2, RGB, 0, own_factory=own)
    assert len(model.tensors[f"{last}.weight"]) == 2
    for key, array in model.tensors.items():
        is_last = key.rpartition(".")[0] == last
        assert np.array_equal(array, fresh.tensors[key] if is_last else given[key].numpy()), key


@pytest.mark.parametrize("name", HEADS)
def test_the_last_layer_is_drawn_anew_for_two_classes(name: str, tmp_path: Path) -> None:
    last_layer_is_new(name, HEADS[name], tmp_path / "five.safetensors")


OWN = """
import torch
from torch import nn

class HeadFirst(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(4, num_classes)
        self.body = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)).mean((2, 3)))
"""


@pytest.mark.usefixtures("own_module")
def test_the_last_layer_is_the_one_that_is_called_last(tmp_path: Path) -> None:
    last_layer_is_new("finetuned:HeadFirst", "head", tmp_path / "five.safetensors")


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "finetuned.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


def test_any_other_layer_of_another_size_is_refused(tmp_path: Path) -> None:
    given = build(RESNET, 2, RGB, own=None, seed=9).state_dict()
    given["layer4.1.conv2.weight"] = torch.zeros(3, 512, 3, 3)
    save_file(given, tmp_path / "weights.safetensors")
    with pytest.raises(BadInputError, match=r"'layer4\.1\.conv2\.weight': expected shape"):
        initial_tensors(RESNET, 2, RGB, 0, init_from=tmp_path / "weights.safetensors")


def tensors(path: Path) -> dict[str, Any]:
    with Checkpoint(path) as checkpoint:
        return checkpoint.tensors()


def make(root: Path, model: ModelInfo = RESNET, **train: Any) -> Run:
    plan = Plan(train=TrainPlan(**{"epochs": 1, "lr": 0.05, **train}))
    partition(root, DataSource(limit=45), start=Start(model, plan=plan))
    return Run.open(root)


def test_frozen_layers_are_not_sent_and_stay_to_the_bit(tmp_path: Path) -> None:
    run = make(tmp_path, freeze=("*", "!fc"))
    for _ in range(2):
        train_client(run, ["all"])
        aggregate(run)
    before, after = (tensors(run.round(number).global_model) for number in (0, 2))
    for name in before:
        same = np.array_equal(before[name], after[name])
        assert same == (name not in ("fc.weight", "fc.bias")), name
    update, whole = run.round(2).update("0"), run.round(0).global_model
    assert tensors(update).keys() == {"fc.weight", "fc.bias"}
    assert update.stat().st_size < whole.stat().st_size / 1000


def test_a_frozen_backbone_makes_a_linear_model_of_its_features(tmp_path: Path) -> None:
    """Steps on all examples at once are torch.optim's on what the fixed network makes of them."""
    run = make(tmp_path, freeze=("*", "!fc"), epochs=3, batch_size=64, momentum=0.9)
    train_client(run, ["0"])
    shard = read_shard(run.client_shard("0"))

    module = build(RESNET, 10, (3, 32, 32), own=None, seed=0)
    base = run.round(0).global_model
    load_arrays(module, tensors(base), base)
    head = module.get_submodule("fc")
    features: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: features.append(given[0].detach()))
    with torch.no_grad():
        module.eval()((torch.from_numpy(shard.x).float() / 255 - 0.5) / 0.25)
    hook.remove()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9)
    x, y = features[0], torch.from_numpy(shard.y)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(x), y).backward()
        optimizer.step()
    sent = tensors(run.round(1).update("0"))
    for name, parameter in head.named_parameters():
        expected = parameter.detach().numpy()
        np.testing.assert_allclose(sent[f"fc.{name}"], expected, rtol=1e-4, atol=1e-5)


def test_half_a_network_frozen_keeps_its_statistics_and_learns_the_rest(tmp_path: Path) -> None:
    run = make(tmp_path, freeze=("conv1", "bn1", "layer[12]"))
    train_client(run, ["0"])
    sent, base = tensors(run.round(1).update("0")), tensors(run.round(0).global_model)
    assert base.keys() - sent.keys() == {
        name for name in base if name.startswith(("conv1.", "bn1.", "layer1.", "layer2."))
    }
    for name in sent:
        assert not np.array_equal(sent[name], base[name]), name


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (("layer9",), "--freeze layer9: matches no tensor of the model"),
        (("*", "!classifier"), "--freeze !classifier: matches no tensor"),
        (("*",), "leave no parameter to train"),
    ],
)
def test_what_cannot_be_frozen_is_refused_when_the_run_is_made(
    tmp_path: Path, freeze: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make(tmp_path, freeze=freeze)
    assert not list(tmp_path.iterdir())


def test_init_makes_a_run_of_adapters_for_two_classes(tmp_path: Path) -> None:
    save_file(build(RESNET, 5, RGB, own=None, seed=9).state_dict(), tmp_path / "five.safetensors")
    made = fedcli(
        *("init", "--model", "resnet18", "--classes", "normal,nodule", "--json"),
        *("--init-from", "five.safetensors", "--lora", 2, "--lora-alpha", 8),
        cwd=tmp_path,
    )
    assert made.json["model"] == "resnet18"
    run = Run.open(tmp_path / "fedrun")
    assert run.info.model == ModelInfo("resnet18", lora=2, lora_alpha=8.0)
    assert run.info.plan.train.freeze == ("*", "!*.lora_a", "!*.lora_b", "!fc")
    assert tensors(run.round(0).global_model)["fc.weight"].shape == (2, 512)
