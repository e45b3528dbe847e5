"""torchvision's weights compute in a run what they compute in torchvision."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from fedcli.errors import BadInputError, StorageError, UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.models import build, takes_rgb
from fedcli.models.from_torchvision import with_current_names
from fedcli.models.state_dicts import StateDict
from fedcli.models.weights import initial_tensors, load_arrays
from fedcli.run import Run
from fedcli.run.info import ModelInfo, RunInfo
from fedcli.setup.start import Start
from fedcli.steps.init import init
from fedcli.training.augmentation import Normalize

IMAGENET = tuple(str(number) for number in range(1000))
Fetched = Callable[[dict[str, Tensor]], None]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Fetched:
    """Let torchvision download these weights."""

    def serve(tensors: dict[str, Tensor]) -> None:
        def load(*_: object, **__: object) -> dict[str, Tensor]:
            return dict(tensors)

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)

    return serve


def theirs(name: str, **options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        options = {"init_weights": True, **options} if name in TRANSFORMING else options
        module: nn.Module = models.get_model(name, weights=None, **options)
    for buffer_name, buffer in module.named_buffers():
        if buffer_name.endswith("running_mean"):
            nn.init.constant_(buffer, 0.01)
    return module


TRANSFORMING = ("googlenet", "inception_v3")


def run_of(root: Path, name: str, classes: tuple[str, ...] = IMAGENET, **start: Any) -> Run:
    size = 96 if name == "inception_v3" else 64
    network = ModelInfo(name, transform_input=start.pop("transform_input", None))
    init(root, classes, image_size=size, start=Start(network, **start))
    return Run.open(root)


def logits(run: Run, pixels: Tensor) -> Tensor:
    """What every client, ``evaluate`` and ``export`` compute from stored pixels."""
    info: RunInfo = run.info
    module = build(info.model, len(info.dataset.classes), info.dataset.shape, own=None, seed=1)
    with Checkpoint(run.round(0).global_model) as file:
        load_arrays(module, file.tensors(), file.path)
    normalize = Normalize.for_dataset(
        info.dataset, as_rgb=takes_rgb(info.model), device=torch.device("cpu")
    )
    with torch.no_grad():
        found: Tensor = module.eval()(normalize(pixels))
    return found


def pixels_of(run: Run) -> Tensor:
    shape = (2, *run.info.dataset.shape)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def expected(name: str, pixels: Tensor) -> Tensor:
    """Load the weights as torchvision does, and normalise with its transforms."""
    weights = models.get_model_weights(name).DEFAULT
    module = models.get_model(name, weights=weights, progress=False).eval()
    transforms = weights.transforms()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transforms.mean, transforms.std))
    with torch.no_grad():
        found: Tensor = module((pixels / 255 - mean) / std)
    return found


def old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of the DenseNet files that torchvision publishes."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def published_tensors(name: str) -> dict[str, Tensor]:
    options = {"aux_logits": True} if name in TRANSFORMING else {}
    tensors = dict(theirs(name, **options).state_dict())
    return old_names(tensors) if name.startswith("densenet") else tensors


NAMES = ("densenet121", "googlenet", "inception_v3", "resnet18")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["--pretrained", "--init-from"])
def test_a_run_computes_what_torchvision_does(
    way: str, name: str, tmp_path: Path, published: Fetched
) -> None:
    tensors = published_tensors(name)
    published(tensors)
    torch.save(tensors, tmp_path / "w.pth")
    start = {"pretrained": True} if way == "--pretrained" else {"init_from": tmp_path / "w.pth"}
    run = run_of(tmp_path / "run", name, **start)
    pixels = pixels_of(run)
    torch.testing.assert_close(logits(run, pixels), expected(name, pixels), rtol=1e-3, atol=1e-3)
    assert run.info.model.transform_input == (True if name in TRANSFORMING else None)


def test_a_vision_transformer_of_an_old_file_gets_its_present_names() -> None:
    """torchvision renamed the layers of its MLPs; its network renames them when it loads."""
    with torch.device("meta"):
        present = models.get_model("vit_b_32", weights=None).state_dict()
    old = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): tensor
        for name, tensor in present.items()
    }
    assert old.keys() != present.keys()
    found = with_current_names("vit_b_32", StateDict(old), 1000)
    assert found.tensors.keys() == present.keys()


def test_efficientnet_v2_l_wants_half_and_half() -> None:
    start = Start(ModelInfo("efficientnet_v2_l"), pretrained=True).settled()
    assert start.normalization("uint8", 3) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    asked = Start(ModelInfo("efficientnet_v2_l"), pretrained=True, normalize="imagenet").settled()
    assert asked.normalization("uint8", 3)[0] == (0.485, 0.456, 0.406)


def test_a_file_of_other_classes_does_not_tell_whether_inputs_are_renormalised(
    tmp_path: Path,
) -> None:
    torch.save(theirs("googlenet", num_classes=5, aux_logits=False).state_dict(), tmp_path / "w")
    with pytest.raises(UsageError, match="does not tell whether") as caught:
        run_of(tmp_path / "run", "googlenet", ("a", "b"), init_from=tmp_path / "w")
    assert "--no-transform-input" in str(caught.value.hint)
    for value in (True, False):
        run = run_of(
            tmp_path / str(value),
            "googlenet",
            ("a", "b"),
            init_from=tmp_path / "w",
            transform_input=value,
        )
        assert bool(run.info.model.transform_input) == value


def test_transform_input_belongs_to_two_networks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--transform-input: belongs to googlenet and incep"):
        run_of(tmp_path / "run", "resnet18", ("a", "b"), transform_input=True)


def test_what_torchvision_cannot_load_is_told_in_one_line(
    tmp_path: Path, published: Fetched
) -> None:
    published({"fc.weight": torch.ones(2)})
    with pytest.raises(StorageError, match="cannot load the weights of resnet18") as caught:
        initial_tensors(ModelInfo("resnet18"), 2, (3, 32, 32), 0, pretrained=True)
    assert "checkpoints" in str(caught.value.hint)
    assert "\n" not in caught.value.message


def test_a_run_of_an_unknown_model_is_refused_where_it_is_built() -> None:
    with pytest.raises(BadInputError, match=r"run.json: this torchvision has no model 'resnet999'"):
        build(ModelInfo("resnet999"), 2, (3, 32, 32), own=None, seed=0)
