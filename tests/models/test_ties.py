"""Tied weights: one tensor under several names counts once, and stays one tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.own_code import write_module
from torch import nn

from fedcli.errors import BadInputError, UsageError
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.manifest import Manifest
from fedcli.models.lora import add_adapters
from fedcli.models.ties import check_ties, ties_of
from fedcli.models.trial import try_out
from fedcli.run import Run

Cli = Callable[..., tuple[int, str, str]]

TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self, num_classes, tied=True):
        super().__init__()
        self.enc = nn.Linear(48, 48)
        self.dec = nn.Linear(48, 48)
        self.norm = nn.BatchNorm1d(48)
        self.again = self.norm
        self.mid = nn.Linear(48, 48)
        self.fc = nn.Linear(48, num_classes)
        if tied:
            self.dec.weight = self.enc.weight

    def forward(self, x):
        x = nn.functional.avg_pool2d(x, 8).flatten(1)
        x = self.again(self.dec(self.norm(self.enc(x)).relu()))
        return self.fc(self.mid(x.relu()).relu())

def apart(num_classes):
    return Tied(num_classes, tied=False)
"""
ALIASES = {f"again.{n}": f"norm.{n}" for n in ("weight", "bias", "running_mean", "running_var")}
ALIASES |= {"again.num_batches_tracked": "norm.num_batches_tracked", "dec.weight": "enc.weight"}


@pytest.fixture
def tied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a network with two tied layers and one layer that is called twice."""
    write_module(monkeypatch, tmp_path, "tied_nets", TIED)
    return "tied_nets:Tied"


def make(cli: Cli, root: Path, model: str, *options: object) -> Run:
    made = cli("partition", "--run", root, "--model", model, "--limit", 120, *options)
    assert made[0] == 0, made
    return Run.open(root)


def train(cli: Cli, run: Run, model: str, *options: object) -> tuple[int, str, str]:
    return cli("train-client", "--run", run.root, "--id", "0,1,2", "--model", model, *options)


def norm_of_update(run: Run, client: str) -> float:
    """|Δ| over the parameters, each once, from the files alone."""
    update = load_file(run.round(1).update(client))
    before = load_file(run.round(0).global_model)
    layers = ("dec.bias", "enc.weight", "enc.bias", "norm.weight", "norm.bias")
    names = (*layers, "mid.weight", "mid.bias", "fc.weight", "fc.bias")
    squares = [np.square(np.float64(update[n]) - before[n]).sum() for n in names]
    return float(np.sqrt(sum(squares)))


def test_a_tied_tensor_is_sent_measured_and_averaged_once(
    cli: Cli, tmp_path: Path, tied: str
) -> None:
    run = make(cli, tmp_path / "run", tied)
    trained = train(cli, run, tied)
    assert trained[0] == 0, trained
    with Checkpoint(run.round(1).update("0")) as update:
        assert not ALIASES.keys() & update.layout.keys()
        assert update.metadata.tied == ALIASES
    assert cli("aggregate", "--run", run.root)[0] == 0
    manifest = Manifest.read(run.round(1).manifest)
    assert manifest is not None
    for entry in manifest.accepted:
        assert entry.norm == pytest.approx(norm_of_update(run, entry.client), rel=1e-5)
    model = load_file(run.round(1).global_model)
    for alias, name in ALIASES.items():
        assert model[alias].tobytes() == model[name].tobytes()
    updates = [load_file(run.round(1).update(client)) for client in "012"]
    mean = np.mean([np.float64(update["enc.weight"]) for update in updates], axis=0)
    np.testing.assert_allclose(model["dec.weight"], mean, rtol=1e-6)
    scored = cli("evaluate", "--run", run.root, "--model", tied, "--id", "0")
    assert scored[0] == 0, scored
    assert cli("verify", "--run", run.root, "--replay", "--model", tied)[0] == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--reduce", "krum", "--byzantine", 0),
        ("--reduce", "median", "--server-optimizer", "adam"),
        ("--reduce", "rfa"),
        ("--reduce", "centered-clipping", "--clip-norm", 1),
        ("--strategy", "fedavgm"),
        ("--reduce", "clipped-mean", "--clip-norm", 0.1),
    ],
)
def test_every_rule_keeps_the_tie(
    cli: Cli, tmp_path: Path, tied: str, options: tuple[object, ...]
) -> None:
    run = make(cli, tmp_path / "run", tied, *options)
    assert train(cli, run, tied)[0] == 0
    aggregated = cli("aggregate", "--run", run.root)
    assert aggregated[0] == 0, aggregated
    model = load_file(run.round(1).global_model)
    assert model["dec.weight"].tobytes() == model["enc.weight"].tobytes()


@pytest.mark.parametrize("algorithm", ["scaffold", "feddyn", "ditto", "moon", "fedbn", "fednova"])
def test_every_algorithm_keeps_the_tie(cli: Cli, tmp_path: Path, tied: str, algorithm: str) -> None:
    run = make(cli, tmp_path / "run", tied, "--algorithm", algorithm)
    for _ in range(2):
        trained = train(cli, run, tied)
        assert trained[0] == 0, trained
        aggregated = cli("aggregate", "--run", run.root)
        assert aggregated[0] == 0, aggregated
    model = load_file(run.round(2).global_model)
    assert model["dec.weight"].tobytes() == model["enc.weight"].tobytes()
    if algorithm in ("ditto", "fedbn"):
        scored = cli("evaluate", "--run", run.root, "--model", tied, "--personal")
        assert scored[0] == 0, scored


def test_a_layer_that_shares_its_weight_stays_with_the_client_whole_or_not_at_all(
    cli: Cli, tmp_path: Path, tied: str
) -> None:
    for option in ("--local-layers", "--freeze"):
        status, _, err = cli("partition", "--run", tmp_path / "no", "--model", tied, option, "dec")
        assert status == 2
        assert f"{option}: 'dec.weight' is the same tensor as 'enc.weight'" in err
    run = make(cli, tmp_path / "run", tied, "--local-layers", "dec,enc")
    trained = train(cli, run, tied)
    assert trained[0] == 0, trained
    sent = load_file(run.round(1).update("0"))
    state = load_file(run.round(1).client_state("0"))
    secret = state["local/enc.weight"].tobytes()
    assert all(tensor.tobytes() != secret for tensor in sent.values())


def test_lora_adapts_no_tied_layer_and_freezes_ties_whole(
    cli: Cli, tmp_path: Path, tied: str
) -> None:
    run = make(cli, tmp_path / "run", tied, "--lora", 2, "--local-layers", "norm,again")
    names = load_file(run.round(0).global_model)
    assert [name for name in names if name.endswith("lora_a")] == ["mid.lora_a"]
    trained = train(cli, run, tied)
    assert trained[0] == 0, trained
    assert set(load_file(run.round(1).update("0"))) == {
        "mid.lora_a",
        "mid.lora_b",
        "fc.weight",
        "fc.bias",
    }


def test_code_with_other_ties_than_the_runs_is_refused(
    cli: Cli, tmp_path: Path, tied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(cli, tmp_path / "run", tied)
    write_module(monkeypatch, tmp_path, "tied_nets", TIED.replace("tied=True", "tied=False"))
    status, _, err = train(cli, run, tied)
    assert status == 4
    assert "tensor 'dec.weight' is not tied in this network, and is in the run's model" in err


def test_inspect_counts_a_tied_tensor_once(cli: Cli, tmp_path: Path, tied: str) -> None:
    from fedcli.steps.inspect import inspect

    run = make(cli, tmp_path / "run", tied)
    found = inspect(run.round(0).global_model)
    roles = {tensor.name: tensor.role for tensor in found.tensors}
    assert {roles[name] for name in ALIASES} == {"tied"}
    squares = [t.figures.norm**2 for t in found.tensors if t.role == "parameter" and t.figures.norm]
    assert found.norm == pytest.approx(np.sqrt(sum(squares)))


def test_an_update_that_unties_is_refused(cli: Cli, tmp_path: Path, tied: str) -> None:
    run = make(cli, tmp_path / "run", tied)
    assert train(cli, run, tied)[0] == 0
    path = run.round(1).update("1")
    with Checkpoint(path) as update:
        tensors, metadata = update.tensors(), update.metadata
    tensors["dec.weight"] = 1e6 * np.ones((48, 48), np.float32)
    path.unlink()
    save(path, tensors, metadata)
    status, _, err = cli("aggregate", "--run", run.root, "--strict")
    assert status == 4
    assert "has a tensor 'dec.weight' but says that it withholds it" in err


def test_what_a_header_ties_must_fit(cli: Cli, tmp_path: Path, tied: str) -> None:
    from dataclasses import replace

    run = make(cli, tmp_path / "run", tied)
    assert train(cli, run, tied)[0] == 0
    path = run.round(0).global_model
    with Checkpoint(path) as model:
        tensors, metadata = model.tensors(), model.metadata
    for lie in ({"fc.bias": "enc.weight"}, {"no": "enc.weight"}, {"fc.bias": "no"}):
        path.unlink()
        save(path, tensors, replace(metadata, tied=lie))
        status, _, err = cli("aggregate", "--run", run.root)
        assert status == 4, err
        assert "mistake" not in err


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.two.weight = nn.Parameter(self.one.weight.data.t())


def test_tensors_that_overlap_without_being_one_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'one\.weight' and 'two\.weight' share memory"):
        ties_of(Transposed())


def test_ties_are_found_by_identity() -> None:
    layer = nn.Linear(2, 2)
    same = nn.ModuleDict({"a": layer, "b": layer, "c": nn.Linear(2, 2)})
    same["c"].load_state_dict(layer.state_dict())  # equal values, other tensors
    assert ties_of(same) == {"b.weight": "a.weight", "b.bias": "a.bias"}
    assert ties_of(nn.LSTM(3, 4)) == {}
    check_ties(same, ties_of(same), Path("model"))
    with pytest.raises(BadInputError, match=r"'b\.bias' is tied in this network, and not in"):
        check_ties(same, {"b.weight": "a.weight"}, Path("model"))


def test_no_adapter_on_a_tied_layer() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    module[1].weight = module[0].weight
    trial = try_out(module, torch.zeros(1, 4), "a test")
    add_adapters(module, trial, 1, 1.0)
    adapted: list[Any] = [n for n in module.state_dict() if n.endswith("lora_a")]
    assert adapted == ["2.lora_a"]
