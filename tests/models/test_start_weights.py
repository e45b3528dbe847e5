"""Given weights: where a file holds them, what becomes of each tensor, and what is refused."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.runs import fedcli
from torch import Tensor, nn

from fedcli.errors import BadInputError, NotReadyError
from fedcli.models import build
from fedcli.models.start_weights import StartReport
from fedcli.models.weights import InitialModel, initial_tensors
from fedcli.run.info import ModelInfo

SHAPE = (3, 16, 16)
CNN = ModelInfo("cnn")
Tensors = dict[str, Tensor]


def given(classes: int = 5) -> Tensors:
    return dict(build(CNN, classes, SHAPE, own=None, seed=9).state_dict())


def start(path: Path, classes: int = 2) -> InitialModel:
    return initial_tensors(CNN, classes, SHAPE, 0, init_from=path)


def report_of(model: InitialModel) -> StartReport:
    assert model.report is not None
    return model.report


def prefixed(prefix: str) -> Callable[[Tensors], Any]:
    return lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def wrapped(key: str, prefix: str = "") -> Callable[[Tensors], Any]:
    others = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    return lambda tensors: {key: prefixed(prefix)(tensors), **others}


FORMS: Mapping[str, Callable[[Tensors], Any]] = {
    "plain": dict,
    "DataParallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled DataParallel": prefixed("_orig_mod.module."),
    "state_dict": wrapped("state_dict"),
    "model_state_dict": wrapped("model_state_dict"),
    "model": wrapped("model", "module."),
    "net": wrapped("net"),
    "Lightning": wrapped("state_dict", "model."),
    "Lightning, another attribute": wrapped("state_dict", "net.backbone."),
    "a name of one's own": wrapped("hospital_7_weights"),
    "nested": lambda tensors: {"checkpoint": {"model": {"state_dict": tensors}}},
    "arguments and scores": lambda tensors: {
        "net": tensors,
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.9),
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_found_in_whatever_people_wrap_them(form: str, tmp_path: Path) -> None:
    tensors = given()
    torch.save(FORMS[form](tensors), tmp_path / "w.pth")
    model = start(tmp_path / "w.pth")
    report = report_of(model)
    assert report.drawn == ("out.weight", "out.bias")
    assert set(report.taken) == tensors.keys() - set(report.drawn)
    for name in report.taken:
        assert np.array_equal(model.tensors[name], tensors[name].numpy()), name


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.module."])
@pytest.mark.parametrize("suffix", ["safetensors", "pt", "bin"])
def test_prefixes_are_found_in_safetensors_too_whatever_the_suffix(
    prefix: str, suffix: str, tmp_path: Path
) -> None:
    save_file(prefixed(prefix)(given()), tmp_path / f"w.{suffix}")
    assert report_of(start(tmp_path / f"w.{suffix}")).prefix == prefix.removesuffix(".")


def test_averaged_weights_come_after_the_model_and_are_named(tmp_path: Path) -> None:
    tensors = given()
    averaged = {name: tensor + 1 for name, tensor in tensors.items()}
    torch.save({"ema": averaged, "model": tensors}, tmp_path / "w.pth")
    model = start(tmp_path / "w.pth")
    assert np.array_equal(model.tensors["conv1.weight"], tensors["conv1.weight"].numpy())
    assert report_of(model).others == ("ema",)


def test_two_networks_that_fit_alike_are_refused(tmp_path: Path) -> None:
    torch.save({"student": given(), "teacher": given()}, tmp_path / "w.pth")
    with pytest.raises(BadInputError, match="'student', 'teacher' fit alike"):
        start(tmp_path / "w.pth")


def test_the_loss_beside_a_network_is_left_over_and_named(tmp_path: Path) -> None:
    tensors = {**prefixed("model.")(given()), "criterion.weight": torch.ones(5)}
    torch.save({"state_dict": tensors}, tmp_path / "w.pth")
    left = report_of(start(tmp_path / "w.pth")).left_over
    assert left == ("out.weight", "out.bias", "state_dict.criterion.weight")


FEATURES = given()["out.weight"].shape[1]
HEADS: Mapping[str, Tensors] = {
    "another size": {},
    "a sequence": {"out.1.weight": torch.ones(5, 512), "out.1.bias": torch.ones(5)},
    "another name": {"head.weight": torch.ones(5, FEATURES), "head.bias": torch.ones(5)},
    "auxiliary": {"aux1.fc.weight": torch.ones(5, 9), "AuxLogits.conv.weight": torch.ones(3)},
}


@pytest.mark.parametrize("head", HEADS)
def test_old_and_auxiliary_heads_are_left_over(head: str, tmp_path: Path) -> None:
    tensors = given()
    if head in ("a sequence", "another name"):
        tensors = {name: value for name, value in tensors.items() if not name.startswith("out.")}
    tensors |= HEADS[head]
    save_file(tensors, tmp_path / "w.safetensors")
    report = report_of(start(tmp_path / "w.safetensors"))
    assert report.drawn == ("out.weight", "out.bias")
    assert set(report.left_over) == tensors.keys() - set(report.taken)


def test_a_file_of_a_larger_network_is_refused(tmp_path: Path) -> None:
    """All tensors of resnet18 have their name and shape in resnet34."""
    larger = build(ModelInfo("resnet34"), 5, (3, 32, 32), own=None, seed=0).state_dict()
    save_file(larger, tmp_path / "resnet34.safetensors")
    with pytest.raises(BadInputError, match=r"120 of its 218 tensors fit.*no place for 'layer1.2"):
        initial_tensors(
            ModelInfo("resnet18"), 2, (3, 32, 32), 0, init_from=tmp_path / "resnet34.safetensors"
        )


BAD_VALUES: Mapping[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "NaN": (lambda t: t * float("nan"), "is NaN or infinite"),
    "infinite": (lambda t: t.index_fill(0, torch.tensor([0]), float("inf")), "is NaN or infinite"),
    "int8": (lambda t: (t * 100).to(torch.int8), "is int8: expected floating-point weights"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "is float8_e4m3fn: expected floating-point"),
    "int64": (lambda t: t.to(torch.int64), "is int64: expected floating-point weights"),
    "complex": (lambda t: t.to(torch.complex64), "is complex64: expected floating-point"),
    "too large": (
        lambda t: torch.full_like(t, 1e300, dtype=torch.float64),
        r"has values up to 1e\+300, too large for float32",
    ),
}


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_values_that_the_network_cannot_hold_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    change, message = BAD_VALUES[kind]
    tensors = given()
    for name in ("conv1.weight", "conv2.bias"):
        tensors[name] = change(tensors[name])
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(BadInputError, match=f"'conv1.weight' {message}.*; tensor 'conv2.bias'"):
        start(tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_converted(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in given().items()}
    torch.save(tensors, tmp_path / "w.pth")
    model = start(tmp_path / "w.pth")
    assert np.array_equal(model.tensors["conv1.weight"], tensors["conv1.weight"].float().numpy())


def test_a_counter_takes_whole_numbers_only(tmp_path: Path) -> None:
    info = ModelInfo("resnet18")
    tensors = dict(build(info, 2, (3, 32, 32), own=None, seed=0).state_dict())
    tensors["bn1.num_batches_tracked"] = torch.tensor(2.5)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(BadInputError, match=r"'bn1.num_batches_tracked' .*whole numbers"):
        initial_tensors(info, 2, (3, 32, 32), 0, init_from=tmp_path / "w.safetensors")


class Opaque:
    """An object that only its own code could build again."""


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))


def _cut(path: Path) -> None:
    torch.save(given(), path)
    path.write_bytes(path.read_bytes()[:-900])


def _cut_safetensors(path: Path) -> None:
    save_file(given(), path)
    path.write_bytes(path.read_bytes()[:-1])


NOT_WEIGHTS: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda p: p.write_bytes(b""), r"is empty \(0 bytes\)"),
    "web page": (lambda p: p.write_text("<!DOCTYPE html><html>"), "is a web page"),
    "Git LFS": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is a pointer of Git LFS",
    ),
    "text": (lambda p: p.write_text("weights"), "is not a file of weights"),
    "archive": (_npz, r"is a zip file without weights; it holds 'a\.npy'"),
    "cut off": (_cut, "is truncated or damaged"),
    "cut off safetensors": (_cut_safetensors, "damaged or truncated safetensors"),
    "integer keys": (
        lambda p: torch.save({0: torch.ones(2), 1: torch.ones(2)}, p),
        "found no named tensor, but 2 keys: '0', '1'",
    ),
    "no tensors": (
        lambda p: torch.save({"epoch": 3, "args": {"lr": 0.1}}, p),
        "found no named tensor, but 2 keys: 'epoch', 'args'",
    ),
    "other names": (
        lambda p: torch.save({"a": torch.ones(2), "b": torch.ones(2)}, p),
        "found 2 tensors: 'a', 'b'",
    ),
    "a tensor": (lambda p: torch.save(torch.ones(2), p), "found a Tensor"),
    "a list": (lambda p: torch.save([1, [2]], p), "found a list"),
    "a module": (lambda p: torch.save(nn.Linear(2, 2), p), r"holds torch\.nn.*Linear"),
    "an object": (lambda p: torch.save({"a": Opaque()}, p), r"holds .*Opaque"),
    "TorchScript": (
        lambda p: torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(p),
        "is a TorchScript program",
    ),
    "sparse": (
        lambda p: torch.save({**given(), "conv1.weight": given()["conv1.weight"].to_sparse()}, p),
        "expected plain tensors; 'conv1.weight'",
    ),
    "meta": (
        lambda p: torch.save({**given(), "conv1.weight": torch.ones(2, device="meta")}, p),
        "expected plain tensors; 'conv1.weight'",
    ),
    "a folder": (Path.mkdir, "is a folder"),
}


@pytest.mark.filterwarnings("ignore:.*jit:FutureWarning")
@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_what_is_no_file_of_weights_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    write, message = NOT_WEIGHTS[kind]
    write(tmp_path / "w.pth")
    with pytest.raises(BadInputError, match=message) as caught:
        start(tmp_path / "w.pth")
    said = f"{caught.value.message} {caught.value.hint}"
    assert "w.pth" in said
    assert "weights_only" not in said
    assert "\\x1b" not in said
    assert "safe_globals" not in said


def test_a_file_that_is_not_there_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"w\.pth: no such file"):
        start(tmp_path / "w.pth")


def test_tied_weights_need_one_of_their_names_and_one_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiednet.py").write_text(TIED)
    monkeypatch.chdir(tmp_path)
    own = "tiednet:Tied"
    tensors = dict(build(ModelInfo(own), 2, (4,), own=own, seed=9).state_dict())
    alone = {name: value for name, value in tensors.items() if name != "dec.weight"}
    for name, kept in (("one", alone), ("both", tensors)):
        torch.save(kept, tmp_path / name)
        model = initial_tensors(
            ModelInfo(own), 2, (4,), 0, init_from=tmp_path / name, own_factory=own
        )
        assert np.array_equal(model.tensors["dec.weight"], tensors["enc.weight"].numpy())
        assert report_of(model).drawn == ()
    torch.save({**tensors, "dec.weight": tensors["dec.weight"] + 1}, tmp_path / "apart")
    with pytest.raises(BadInputError, match=r"'enc.weight' and 'dec.weight' are one tensor"):
        initial_tensors(ModelInfo(own), 2, (4,), 0, init_from=tmp_path / "apart", own_factory=own)


TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.enc, self.dec = nn.Linear(4, 4), nn.Linear(4, 4)
        self.dec.weight = self.enc.weight
        self.out = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.out(self.dec(self.enc(x)))
"""


def test_init_says_what_became_of_the_weights(tmp_path: Path) -> None:
    tensors = dict(build(CNN, 5, (3, 32, 32), own=None, seed=9).state_dict())
    torch.save({"state_dict": prefixed("module.")(tensors)}, tmp_path / "w.pth")
    command = ("init", "--classes", "a,b", "--init-from", "w.pth")
    said = fedcli(*command, cwd=tmp_path)
    assert "(--init-from w.pth): 8 of 10 tensors taken, under 'state_dict.module'" in said.out
    assert "drawn anew: out.weight, out.bias" in said.out
    assert "left over in the file: out.weight, out.bias" in said.out
    report = fedcli(*command, "--force", "--json", cwd=tmp_path).json["start_weights"]
    assert report["drawn"] == report["left_over"] == ["out.weight", "out.bias"]
    assert len(report["taken"]) == 8
