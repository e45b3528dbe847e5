"""The networks: names, sizes, starting weights."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from fedcli.errors import BadInputError, NotReadyError, UsageError
from fedcli.formats.metadata import Role
from fedcli.models import MODELS, build, check_model, from_torchvision, resnet
from fedcli.models.convolution import Conv2d
from fedcli.models.weights import initial_tensors, load_arrays, to_arrays
from fedcli.randomness import stream_seed
from fedcli.run.info import ModelInfo
from fedcli.run.model_names import BUILT_IN, IN_TORCHVISION, NORMS

RGB = (3, 32, 32)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def make(name: str, classes: int = 10, shape: tuple[int, ...] = RGB, **options: Any) -> nn.Module:
    return build(ModelInfo(name, **options), classes, shape, own=None, seed=1)


def test_resnet18_is_torchvisions() -> None:
    own = make("resnet18")
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(1, "model"))
        theirs = torchvision.models.resnet18(num_classes=10)
    assert parameters(own) == 11_181_642
    assert list(own.state_dict()) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(own.state_dict()[name], tensor), name
    large = torch.randn(2, 3, 64, 64)  # whose last maps are 2×2, which both compute alike
    assert torch.equal(own(large), theirs(large))
    x = torch.randn(4, *RGB)
    torch.testing.assert_close(own(x), theirs(x), rtol=1e-3, atol=1e-4)
    theirs.load_state_dict(own.state_dict(), strict=True)


@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    stride=st.integers(1, 3),
    bias=st.booleans(),
    channels_last=st.booleans(),
)
def test_a_convolution_is_torchs_where_its_output_is_one_pixel_too(
    size: tuple[int, int],
    kernel: tuple[int, int],
    padding: tuple[int, int],
    stride: int,
    bias: bool,
    channels_last: bool,
) -> None:
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    theirs = nn.Conv2d(3, 5, kernel, stride, padding, bias=bias, dtype=torch.float64)
    own = Conv2d(3, 5, kernel, stride, padding, bias=bias, dtype=torch.float64)
    own.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 3, *size, dtype=torch.float64)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    found = []
    for module in (theirs, own):
        inputs = x.clone().contiguous(memory_format=layout).requires_grad_()
        output = module.to(memory_format=layout)(inputs)
        wanted = (inputs, *module.parameters())
        found.append((output, *torch.autograd.grad(output.sin().sum(), wanted)))
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected)


def test_cifar_stem_keeps_the_size_of_small_pictures() -> None:
    module = make("resnet18", stem="cifar")
    assert isinstance(module, nn.Module)
    assert module.get_submodule("conv1").get_parameter("weight").shape == (64, 3, 3, 3)
    features = module.get_submodule("layer1")(
        module.get_submodule("maxpool")(module.get_submodule("conv1")(torch.zeros(1, *RGB)))
    )
    assert features.shape == (1, 64, 32, 32)


def test_group_norm_has_nothing_to_average_but_parameters() -> None:
    model = initial_tensors(ModelInfo("resnet18", norm="group"), 10, RGB, seed=0)
    assert model.roles == {}
    with_batch_norm = initial_tensors(ModelInfo("resnet18"), 10, RGB, seed=0)
    assert with_batch_norm.roles["bn1.running_mean"] == Role.BUFFER
    assert with_batch_norm.roles["bn1.num_batches_tracked"] == Role.COUNTER
    assert len(with_batch_norm.roles) == 3 * 20


def test_cnn_has_the_size_of_the_papers() -> None:
    assert parameters(make("cnn", shape=(3, 24, 24))) == 1_068_298
    assert parameters(make("cnn")) == 1_756_426


@pytest.mark.parametrize("name", ["cnn", "linear", "resnet18"])
@pytest.mark.parametrize("size", [28, 33])
def test_grey_pictures_of_odd_sizes(name: str, size: int) -> None:
    shape = (1, size, size)
    check_model(ModelInfo(name), shape)
    channels = 3 if name == "resnet18" else 1
    assert make(name, 7, shape)(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_linear_takes_any_shape() -> None:
    assert parameters(make("linear", 3, (5,))) == 18


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_torchvisions_classifiers_get_the_right_number_of_outputs(name: str) -> None:
    module = make(name, 2, (3, 64, 64)).eval()
    assert module(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


def test_one_seed_gives_one_model_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (initial_tensors(ModelInfo("cnn"), 10, RGB, s) for s in (5, 5, 6))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(np.array_equal(first.tensors[n], again.tensors[n]) for n in first.tensors)
    assert not np.array_equal(first.tensors["out.weight"], other.tensors["out.weight"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_init_from_keeps_all_but_a_last_layer_of_another_size(tmp_path: Path, suffix: str) -> None:
    given = make("resnet18", 1000).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{name}": t for name, t in given.items()}}, path)
    else:
        save_file(given, path)
    model = initial_tensors(ModelInfo("resnet18"), 2, RGB, 0, init_from=path)
    assert model.tensors["fc.weight"].shape == (2, 512)
    for name, tensor in given.items():
        if not name.startswith("fc."):
            assert np.array_equal(model.tensors[name], tensor.numpy()), name


def test_init_from_refuses_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(make("cnn").state_dict(), path)
    with pytest.raises(BadInputError, match=r"weights\.safetensors: tensor 'conv1\.weight'"):
        initial_tensors(ModelInfo("resnet18"), 10, RGB, 0, init_from=path)


def test_init_from_refuses_what_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"missing\.pth: no such file"):
        initial_tensors(ModelInfo("cnn"), 10, RGB, 0, init_from=tmp_path / "missing.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(BadInputError, match=name):
            initial_tensors(ModelInfo("cnn"), 10, RGB, 0, init_from=tmp_path / name)


class _Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle ran code",))


def test_init_from_never_runs_code(tmp_path: Path) -> None:
    torch.save({"fc.weight": _Exploit()}, tmp_path / "evil.pth")
    with pytest.raises(BadInputError, match=r"evil\.pth"):
        initial_tensors(ModelInfo("cnn"), 10, RGB, 0, init_from=tmp_path / "evil.pth")


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (ModelInfo("resnet99"), RGB, "--model: unknown value 'resnet99'"),
        (ModelInfo("cnn", norm="group"), RGB, "--stem and --norm belong to resnet18"),
        (ModelInfo("resnet18"), (4, 8, 8), "4 channels"),
        (ModelInfo("resnet18"), (12,), "needs pictures"),
    ],
)
def test_what_cannot_be_built_is_refused(
    model: ModelInfo, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_model(model, shape)


@pytest.mark.parametrize("words", [{"stem": "wide"}, {"norm": "layer"}])
def test_a_resnet_has_the_layers_that_are_known(words: dict[str, str]) -> None:
    ((option, value),) = words.items()
    with pytest.raises(UsageError, match=f"--{option}: unknown value '{value}'"):
        ModelInfo("resnet18", **words)


def test_the_names_of_networks_are_those_that_can_be_built() -> None:
    assert {*MODELS} == {*BUILT_IN}
    assert {*NORMS} == {*resnet.NORMS}
    assert {*IN_TORCHVISION} <= {*from_torchvision.names()}


def test_cnn_refuses_flat_examples() -> None:
    with pytest.raises(UsageError, match="needs pictures"):
        make("cnn", shape=(12,))


OWN = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))

def broken(num_classes):
    return "not a module"

def other_name(classes):
    return tiny(classes)

def too_wide(num_classes):
    return tiny(num_classes + 1)

def no_tensor(num_classes):
    return nn.ModuleList()
"""


@pytest.fixture
def own_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of a user's own networks, which is the current one."""
    (tmp_path / "mynets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nonexistent", *sys.path])
    return tmp_path


@pytest.mark.usefixtures("own_nets")
def test_a_users_own_model_runs_only_when_asked_for() -> None:
    tiny = ModelInfo("mynets:tiny")
    assert build(tiny, 4, (3, 2, 2), own="mynets:tiny", seed=0)(torch.zeros(1, 3, 2, 2)).shape == (
        1,
        4,
    )
    with pytest.raises(UsageError, match="only run if you request it"):
        build(tiny, 4, (3, 2, 2), own=None, seed=0)
    with pytest.raises(UsageError, match="this run's model is mynets:tiny"):
        build(tiny, 4, (3, 2, 2), own="mynets:broken", seed=0)
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module, found str"):
        build(ModelInfo("mynets:broken"), 4, (3, 2, 2), own="mynets:broken", seed=0)
    with pytest.raises(UsageError, match="no attribute 'absent'"):
        build(ModelInfo("mynets:absent"), 4, (3, 2, 2), own="mynets:absent", seed=0)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def tiny(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first \\(nets_\\d+.py, line 1\\)$"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
    ],
)
def test_a_users_module_that_does_not_import_is_named(
    own_nets: Path, code: str, reason: str
) -> None:
    module = f"nets_{abs(hash(code))}"
    (own_nets / f"{module}.py").write_text(code)
    name = f"{module}:tiny"
    with pytest.raises(UsageError, match=f"--model {name}: cannot be imported: {reason}") as caught:
        build(ModelInfo(name), 4, (3, 2, 2), own=name, seed=0)
    assert caught.value.__cause__ is not None


@pytest.mark.usefixtures("own_nets")
@pytest.mark.parametrize(
    ("factory", "shape", "message"),
    [
        ("other_name", (3, 2, 2), "cannot be called with num_classes=4: TypeError"),
        ("too_wide", (3, 2, 2), r"expected an output of shape \[2, 4\], found \[2, 5\]"),
        ("no_tensor", (3, 2, 2), r"\[3, 2, 2\] makes it fail: NotImplementedError"),
        ("tiny", (3, 9, 9), r"\[3, 9, 9\] makes it fail: RuntimeError: .*mat1"),
    ],
)
def test_a_users_model_that_cannot_take_the_examples_is_refused(
    factory: str, shape: tuple[int, ...], message: str
) -> None:
    name = f"mynets:{factory}"
    with pytest.raises(UsageError, match=f"--model {name}: .*{message}"):
        initial_tensors(ModelInfo(name), 4, shape, 0, own_factory=name)


def test_a_network_that_needs_larger_pictures_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--model alexnet: .*\[3, 32, 32\]") as caught:
        initial_tensors(ModelInfo("alexnet"), 2, RGB, seed=0)
    assert "--image-size" in str(caught.value.hint)
    assert "\n" not in caught.value.message


def test_trying_a_network_leaves_no_trace_in_its_statistics() -> None:
    model = initial_tensors(ModelInfo("resnet18"), 2, (1, 32, 32), seed=0)
    assert model.tensors["bn1.num_batches_tracked"] == 0
    assert not model.tensors["bn1.running_mean"].any()


def test_load_arrays_names_what_does_not_fit() -> None:
    module, path = make("linear", 3, (5,)), Path("some.safetensors")
    good = to_arrays(module)
    for change, message in (
        ({"fc.bias": np.zeros(4, np.float32)}, r"'fc\.bias': expected shape \[3\], found \[4\]"),
        ({"more": np.zeros(1, np.float32)}, "'more' is not in the run's model"),
    ):
        with pytest.raises(BadInputError, match=message):
            load_arrays(module, {**good, **change}, path)
    del good["fc.bias"]
    with pytest.raises(BadInputError, match=r"some\.safetensors: tensor 'fc\.bias' is missing"):
        load_arrays(module, good, path)


def test_loading_leaves_the_layers_what_they_are() -> None:
    """MNASNet takes weights without a version for those of its old form, and rebuilds itself."""
    first, second = make("mnasnet0_5"), make("mnasnet0_5")
    for parameter in first.parameters():
        nn.init.normal_(parameter)
    shapes = {name: tensor.shape for name, tensor in second.state_dict().items()}
    load_arrays(second, to_arrays(first), Path("global.safetensors"))
    assert {name: tensor.shape for name, tensor in second.state_dict().items()} == shapes
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name
