"""LoRA: what adapters are put beside, that they start from nothing, and that they can be merged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from fedcli.errors import BadInputError, UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.models import build
from fedcli.models.lora import adapted, add_adapters, merged
from fedcli.models.trial import try_out
from fedcli.models.weights import initial_tensors
from fedcli.plan import Plan, TrainPlan
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.aggregate import aggregate
from fedcli.steps.evaluate import evaluate
from fedcli.steps.partition import partition
from fedcli.steps.train_client import train_client

RGB = (3, 64, 64)


def make(model: ModelInfo, seed: int = 1) -> nn.Module:
    return build(model, 2, RGB, own=None, seed=seed)


def with_adapters(module: nn.Module, example: torch.Tensor, rank: int, scale: float) -> nn.Module:
    add_adapters(module, try_out(module, example, "the model"), rank, scale)
    return module


def move_adapters(module: nn.Module) -> None:
    """Give the adapters values as training would."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for name, parameter in module.named_parameters():
            if name.endswith((".lora_a", ".lora_b")):
                parameter.normal_(std=0.1)


@pytest.mark.parametrize("name", ["cnn", "resnet18", "mobilenet_v3_small"])
def test_a_network_with_fresh_adapters_computes_what_it_did(name: str) -> None:
    plain, module = make(ModelInfo(name)).eval(), make(ModelInfo(name, lora=4)).eval()
    given = module.state_dict()
    for key, tensor in plain.state_dict().items():
        assert torch.equal(given[key], tensor), key
    x = torch.randn(2, *RGB, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module(x), plain(x))


def test_adapters_are_drawn_from_the_seed() -> None:
    first, again, other = (
        initial_tensors(ModelInfo("cnn", lora=2), 2, RGB, seed).tensors for seed in (5, 5, 6)
    )
    assert first.keys() - initial_tensors(ModelInfo("cnn"), 2, RGB, 5).tensors.keys() == {
        f"{layer}.{part}"
        for layer in ("conv1", "conv2", "fc1", "fc2")
        for part in ("lora_a", "lora_b")
    }
    assert first["conv2.lora_a"].shape == (2, 64, 5, 5)
    assert first["conv2.lora_b"].shape == (64, 2, 1, 1)
    assert first["fc2.lora_a"].shape == (2, 384)
    assert first["fc2.lora_b"].shape == (192, 2)
    for name in first:
        assert np.array_equal(first[name], again[name]), name
    assert not np.array_equal(first["fc2.lora_a"], other["fc2.lora_a"])
    assert not np.array_equal(first["fc2.lora_a"][0], first["fc2.lora_a"][1])


@settings(max_examples=60)
@given(
    kernel=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3])),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([0, 2, "same", "valid"]),
    mode=st.sampled_from(["zeros", "reflect", "circular"]),
    bias=st.booleans(),
    scale=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_an_adapter_of_a_convolution_is_a_change_of_its_weight(
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    padding: int | str,
    mode: str,
    bias: bool,
    scale: float,
) -> None:
    """Output and gradients, against autograd through the weight W + scale B A."""
    conv = nn.Conv2d(
        3, 5, kernel, 1 if padding == "same" else stride, padding, dilation,
        bias=bias, padding_mode=mode,
    )  # fmt: skip
    module = nn.Sequential(conv, nn.Conv2d(5, 2, 1)).double()
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    with_adapters(module, x[:1], 2, scale)
    move_adapters(module)
    found = module(x)

    state = dict(module.named_parameters())
    a, b = state["0.lora_a"], state["0.lora_b"]
    weight = conv.weight + scale * torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a)
    plain = nn.Sequential(
        nn.Conv2d(
            3, 5, kernel, conv.stride, padding, dilation, bias=bias, padding_mode=mode
        ),
        nn.Conv2d(5, 2, 1),
    ).double()  # fmt: skip
    others = {name: p for name, p in state.items() if name.startswith("1.") or name == "0.bias"}
    expected = torch.func.functional_call(plain, {**others, "0.weight": weight}, (x,))
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), [a, b]),
        torch.autograd.grad(expected.square().sum(), [a, b]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("name", "alpha"), [("cnn", None), ("resnet18", 32.0), ("mobilenet_v3_small", 1.0)]
)
def test_merged_weights_are_a_plain_network_that_computes_the_same(
    name: str, alpha: float | None
) -> None:
    info = ModelInfo(name, lora=4, lora_alpha=alpha)
    module, plain = make(info).eval(), make(ModelInfo(name)).eval()
    move_adapters(module)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    weights = merged(module.state_dict(), info.lora_scale)
    assert list(weights) == list(plain.state_dict())
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())
    x = torch.randn(2, *RGB, generator=torch.Generator().manual_seed(0))
    old = plain(x)
    plain.load_state_dict(weights, strict=True)
    torch.testing.assert_close(plain(x), module(x), rtol=1e-4, atol=1e-5)
    assert (module(x) - old).abs().max() > 1e-3 * old.abs().max()


def test_convolutions_in_groups_have_no_adapter() -> None:
    module = make(ModelInfo("mobilenet_v3_small", lora=4))
    found = set(adapted(module.state_dict()))
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert (name in found) == (layer.groups == 1), name
    assert "classifier.0" in found
    assert "classifier.3" not in found  # the last layer, which is trained itself


class Own(nn.Module):
    """Layers that an adapter would do nothing for, or something else than is meant."""

    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.by_name = nn.Linear(3, 8)
        self.twice = nn.Linear(8, 8)
        self.doubled = Own.Doubled(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.read = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 8)
        self.computed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.by_name(input=x.flatten(2).transpose(1, 2))
        x = self.twice(torch.relu(self.twice(x)))
        x = self.attention(x, x, x, need_weights=False)[0]
        x = nn.functional.linear(self.doubled(x), self.read.weight)
        logits: torch.Tensor = self.head(self.computed(x).mean(1))
        return logits


def test_adapters_are_only_where_they_are_a_change_of_the_weight() -> None:
    x = torch.randn(2, 3, 4, 4)
    module, plain = Own().eval(), Own().eval()
    with_adapters(module, x[:1], 2, 2.0)
    assert adapted(module.state_dict()) == ["by_name", "twice"]
    move_adapters(module)
    plain.load_state_dict(merged(module.state_dict(), 2.0))
    torch.testing.assert_close(plain(x), module(x))
    adapters = [p for name, p in module.named_parameters() if "lora" in name]
    for gradient in torch.autograd.grad(module(x).sum(), adapters):
        assert gradient.abs().max() > 0


def test_torchs_fast_path_of_transformers_does_not_skip_adapters() -> None:
    """In evaluation without gradients torch reads the weights of a plain layer past its call."""

    def transformer() -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(32, 2))

    x = torch.randn(3, 4, 8)
    module, plain = transformer().eval(), transformer().eval()
    with torch.no_grad():
        with_adapters(module, x[:1], 2, 1.0)
        assert "0.layers.1.linear2" in adapted(module.state_dict())
        move_adapters(module)
        plain.load_state_dict(merged(module.state_dict()))
        torch.testing.assert_close(module(x), plain(x))


def test_a_model_of_one_layer_takes_no_adapter() -> None:
    with pytest.raises(UsageError, match="no linear or convolutional layer except the last"):
        initial_tensors(ModelInfo("linear", lora=2), 2, RGB, seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora": 0}, "--lora: expected 1 or more, found 0"),
        ({"lora": 2, "lora_alpha": 0.0}, "--lora-alpha: expected a number above 0"),
        ({"lora_alpha": 2.0}, "--lora-alpha: belongs to --lora"),
    ],
)
def test_numbers_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelInfo("cnn", **values)


def test_init_from_takes_over_the_weights_beside_fresh_adapters(tmp_path: Path) -> None:
    given = make(ModelInfo("resnet18"), seed=9).state_dict()
    save_file(given, tmp_path / "plain.safetensors")
    info = ModelInfo("resnet18", lora=4)
    model = initial_tensors(info, 2, RGB, 0, init_from=tmp_path / "plain.safetensors")
    fresh = initial_tensors(info, 2, RGB, 0)
    for name, array in model.tensors.items():
        expected = fresh.tensors[name] if "lora" in name else given[name].numpy()
        assert np.array_equal(array, expected), name

    save_file(make(info).state_dict(), tmp_path / "adapters.safetensors")
    for model_info in (info, ModelInfo("resnet18")):
        with pytest.raises(BadInputError, match=r"adapters\.safetensors: layer 'conv1'") as caught:
            initial_tensors(model_info, 2, RGB, 0, init_from=tmp_path / "adapters.safetensors")
        assert "merge" in str(caught.value.hint)


SMALL = DataSource(limit=40)


def start(model: ModelInfo, **train: Any) -> Start:
    return Start(model, plan=Plan(train=TrainPlan(epochs=1, lr=0.05, **train)))


def rounds(root: Path, count: int) -> Run:
    run = Run.open(root)
    for _ in range(count):
        train_client(run, ["all"])
        aggregate(run)
    return run


def tensors(path: Path) -> dict[str, Any]:
    with Checkpoint(path) as checkpoint:
        return checkpoint.tensors()


def test_a_run_sends_adapters_and_last_layer_only(tmp_path: Path) -> None:
    partition(tmp_path, SMALL, start=start(ModelInfo("cnn", lora=2, lora_alpha=4.0)))
    run = rounds(tmp_path, 2)
    before, after = (tensors(run.round(number).global_model) for number in (0, 2))
    sent = tensors(run.round(2).update("1"))
    trained = {name for name in before if "lora" in name} | {"out.weight", "out.bias"}
    assert sent.keys() == trained
    for name in before:
        assert np.array_equal(before[name], after[name]) == (name not in trained), name

    plain = merged(load_file(run.round(2).global_model), run.info.model.lora_scale)
    save_file(plain, tmp_path / "plain.safetensors")
    other = Start(ModelInfo("cnn"), init_from=tmp_path / "plain.safetensors")
    partition(tmp_path / "other", SMALL, start=other)
    losses = [
        evaluate(Run.open(root), rounds=number).evaluations[0]["loss"]
        for root, number in ((tmp_path, 2), (tmp_path / "other", 0))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_only_a_run_with_adapters_says_so(tmp_path: Path) -> None:
    for name, model in (("plain", ModelInfo("cnn")), ("lora", ModelInfo("cnn", lora=3))):
        partition(tmp_path / name, SMALL, start=start(model))
    plain, lora = (
        json.loads((tmp_path / name / "run.json").read_text()) for name in ("plain", "lora")
    )
    assert plain["model"] == {"name": "cnn", "stem": "imagenet", "norm": "batch"}
    assert lora["model"] == {**plain["model"], "lora": 3}
    assert "freeze" not in plain["plan"]["train"]
    assert lora["plan"]["train"]["freeze"] == ["*", "!*.lora_a", "!*.lora_b", "!out"]
    assert Run.open(tmp_path / "lora").info.model == ModelInfo("cnn", lora=3)


def test_what_the_plan_freezes_is_left_to_it(tmp_path: Path) -> None:
    only_b = ("*", "!*.lora_b", "!out")
    partition(tmp_path, SMALL, start=start(ModelInfo("cnn", lora=2), freeze=only_b))
    run = rounds(tmp_path, 1)
    assert run.info.plan.train.freeze == only_b
    assert not any(name.endswith("lora_a") for name in tensors(run.round(1).update("0")))


def test_what_local_layers_take_out_again_stays_frozen(tmp_path: Path) -> None:
    local = ("conv*", "!conv2", "!*.lora_?")
    partition(tmp_path, SMALL, start=start(ModelInfo("cnn", lora=2), local_layers=local))
    run = rounds(tmp_path, 1)
    state = tensors(run.round(1).client_state("0"))
    trained = {n.partition("/")[2] for n in state if n.startswith("local/")}
    assert trained == {"conv1.weight", "conv1.bias"}
    initial, sent = tensors(run.round(0).global_model), tensors(run.round(1).update("0"))
    assert not np.array_equal(state["local/conv1.weight"], initial["conv1.weight"])
    assert "conv2.weight" not in sent


@pytest.mark.parametrize(
    "local", [{"algorithm": "fedbn"}, {"local_layers": ("bn1", "fc")}], ids=["fedbn", "layers"]
)
def test_layers_that_stay_with_the_client_are_trained(tmp_path: Path, local: Any) -> None:
    partition(tmp_path, SMALL, start=start(ModelInfo("resnet18", lora=2), **local))
    run = Run.open(tmp_path)
    train_client(run, ["0"])
    state = tensors(run.round(1).client_state("0"))
    initial = tensors(run.round(0).global_model)
    name = "bn1.running_mean"
    assert not np.array_equal(state[f"local/{name}"], initial[name])
    assert name not in tensors(run.round(1).update("0"))
    assert "layer1.0.conv1.lora_b" in tensors(run.round(1).update("0"))
