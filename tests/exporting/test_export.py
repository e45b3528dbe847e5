"""``export``: what other programs read, and a card that says what the files of the run do."""

import contextlib
import importlib.util
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from support.handmade import deliver_all, planned
from support.pages import ROOT
from support.runs import fedcli, python, tensors
from support.signing import keys, signed_run
from support.small_runs import play, small_run

from fedcli.cli import execute
from fedcli.errors import (
    BadInputError,
    ConflictError,
    MissingDependencyError,
    NotReadyError,
    UsageError,
)
from fedcli.exporting.commands import commands
from fedcli.exporting.history import history
from fedcli.exporting.weights import merged_adapters
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.evaluation import Evaluation, Score
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.models import build
from fedcli.models.weights import to_tensors
from fedcli.plan import Plan, TrainPlan
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.steps.aggregate import aggregate
from fedcli.steps.export import export

pytestmark = pytest.mark.usefixtures("unsynced")
THREE = ("0", "1", "2")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two rounds, made by hand."""
    run = planned(tmp_path / "run", THREE)
    for number in (1, 2):
        deliver_all(run, THREE, number)
        aggregate(run)
    return run


def weights_of(run: Run, number: int) -> dict[str, Any]:
    with Checkpoint(run.round(number).global_model) as model:
        return model.tensors()


def test_any_reader_of_safetensors_finds_the_weights(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    result = export(run, output=path)
    expected, found = weights_of(run, 2), load_file(path)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert np.array_equal(found[name], values)
    with safe_open(path, "np") as file:
        notes = file.metadata()
    assert notes["format"] == "pt"
    assert (notes["fedcli_run"], notes["fedcli_round"]) == (run.id, "2")
    assert (result.sha256, result.bytes) == (digest(path), path.stat().st_size)


def test_torch_loads_the_weights_without_running_code(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    export(run, format="torch", output=path, round_number=1)
    found = torch.load(path, weights_only=True)
    expected = weights_of(run, 1)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name].numpy(), values) for name, values in expected.items())


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_the_same_model_is_exported_once_and_gives_the_same_bytes(
    run: Run, tmp_path: Path, format: str
) -> None:
    suffix = {"safetensors": ".safetensors", "torch": ".pt"}[format]
    one, two = (tmp_path / name / f"model{suffix}" for name in ("one", "two"))
    first = export(run, format=format, output=one)
    export(run, format=format, output=two)
    assert (one.read_bytes(), first.card.read_bytes()) == (
        two.read_bytes(),
        two.with_name(f"{two.name}.md").read_bytes(),
    )
    before = one.stat().st_mtime_ns
    assert not first.already_done
    assert export(run, format=format, output=one).already_done
    assert one.stat().st_mtime_ns == before
    with pytest.raises(ConflictError, match=re.escape(str(one))):
        export(run, format=format, output=one, round_number=1)
    assert one.read_bytes() == two.read_bytes()
    export(run, format=format, output=one, round_number=1, force=True)
    assert one.read_bytes() != two.read_bytes()


def test_a_card_with_other_scores_is_another_card(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    export(run, output=path)
    sha256 = digest(run.round(2).global_model)
    score = {"model": "global", "data": "test", "examples": 8, "accuracy": 0.875, "sha256": sha256}
    other = {**score, "accuracy": 0.125, "sha256": "0" * 64}
    values = {"format": 1, "round": 2, "results": [score, other]}
    run.round(2).evaluation.write_text(json.dumps(values))
    with pytest.raises(ConflictError, match=r"model\.safetensors\.md: exists"):
        export(run, output=path)
    card = export(run, output=path, force=True).card.read_text()
    assert "0.8750" in card
    assert "0.1250" not in card


def test_the_card_names_the_whole_chain_and_every_client(run: Run, tmp_path: Path) -> None:
    card = export(run, output=tmp_path / "model.safetensors").card.read_text()
    for number in (0, 1, 2):
        assert f"| {number} | {digest(run.round(number).global_model)} |" in card
    assert run.id in card
    assert digest(tmp_path / "model.safetensors") in card
    for client in THREE:
        assert f"| {client} | {10 + int(client)} | 2 |" in card
    for number, name in enumerate(run.info.dataset.classes):
        assert f"| {number} | {name} |" in card
    assert "was not evaluated" in card


def test_files_that_are_gone_are_gone_from_the_card_and_nothing_else(
    run: Run, tmp_path: Path
) -> None:
    sha256 = digest(run.round(0).global_model)
    run.round(0).global_model.unlink()
    run.round(1).manifest.unlink()
    run.round(2).update("0").unlink()
    card = export(run, output=tmp_path / "model.safetensors").card.read_text()
    assert f"| 0 | {sha256} |" in card
    assert "no longer in the run" in card


def test_the_card_tells_how_clients_trained(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", Plan(TrainPlan(epochs=1, batch_size=16)))
    run = Run(run.root, replace(run.info, origin={"step": "init"}), run.id)
    play(run, 1, {"algorithm": "ditto", "ditto_lambda": 0.25}, {})
    card = export(run, output=tmp_path / "model.safetensors").card.read_text()
    assert "algorithm ditto, batch size 16," in card
    assert "ditto lambda 0.25" in card


def test_names_cannot_break_the_card(tmp_path: Path) -> None:
    names = ("<script>", "a|b\n## Scores", "`x`", "[y](z)")
    info = planned(tmp_path / "first", THREE).info
    run = Run.create(tmp_path / "run", replace(info, dataset=replace(info.dataset, classes=names)))
    save(run.round(0).global_model, tensors(0), Metadata(Kind.GLOBAL, run.id, round=0, seed=0))
    card = export(run, output=tmp_path / "model.safetensors").card.read_text()
    assert card.count("\n## Scores\n") == 1
    assert "<script>" not in card.partition("```sh")[0]
    assert "| 1 | a\\|b \\#\\# Scores |" in card


def test_what_cannot_be_exported(run: Run, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="round 7 has no global model; the latest is 2"):
        export(run, round_number=7)
    with pytest.raises(UsageError, match=r"ends in \.pt or \.pth, for --format torch"):
        export(run, format="torch", output=tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="--format"):
        export(run, format="pickle")
    with pytest.raises(UsageError, match="is in the run directory"):
        export(run, output=run.round(2).path / "global.safetensors", force=True)


def test_a_model_that_the_coordinator_did_not_sign_does_not_leave_the_run(tmp_path: Path) -> None:
    signed = signed_run(tmp_path / "run", keys(tmp_path))
    card = export(signed.run, output=tmp_path / "0.safetensors").card.read_text()
    assert signed.coordinator.public in card
    signed.run.round(0).global_signature.unlink()
    with pytest.raises(BadInputError, match="is not signed"):
        export(signed.run, output=tmp_path / "1.safetensors")


def test_safetensors_takes_no_torch(run: Run, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from fedcli.run import Run\n"
        "from fedcli.steps.export import export\n"
        "export(Run.open(Path('run')), output=Path('model.safetensors'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert python(script, cwd=tmp_path).status == 0


# --- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_adapters_are_merged_into_the_weights(tmp_path: Path, format: str) -> None:
    info = ModelInfo("cnn", lora=2, lora_alpha=4.0)
    module = build(info, 2, (3, 8, 8), own=None, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if ".lora_" in name:
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
    arrays = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    plain = build(ModelInfo("cnn"), 2, (3, 8, 8), own=None, seed=1).eval()
    plain.load_state_dict(to_tensors(merged_adapters(arrays, info.lora_scale)), strict=True)
    x = torch.randn(3, 3, 8, 8, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), module(x), rtol=1e-4, atol=1e-3)

    first = small_run(tmp_path / "first", model="cnn").info
    run = Run.create(tmp_path / "run", replace(first, model=info))
    save(run.round(0).global_model, arrays, Metadata(Kind.GLOBAL, run.id, round=0, seed=0))
    path = tmp_path / {"safetensors": "m.safetensors", "torch": "m.pt"}[format]
    result = export(run, format=format, output=path)
    found: Any = load_file(path) if format == "safetensors" else torch.load(path, weights_only=True)
    assert result.merged
    assert found.keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        assert np.array_equal(np.asarray(found[name]), tensor.numpy())
    assert "merged into the weights" in result.card.read_text()


# --- ONNX ----------------------------------------------------------------------------------------


def test_packages_that_onnx_needs_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs the package onnx") as error:
        export(run, format="onnx", output=Path("model.onnx"))
    assert error.value.hint == "pip install 'fedcli[onnx]'"


def test_a_graph_computes_the_logits_from_pixels_for_any_number_of_them(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    from fedcli.evaluation.scorer import Scorer

    run = small_run(tmp_path / "run", model="cnn", count=16)
    play(run, 1, {"epochs": 1}, {})
    paths = [tmp_path / name / "model.onnx" for name in ("one", "two")]
    for path in paths:
        export(run, format="onnx", output=path)
    data = paths[0].read_bytes()
    assert data == paths[1].read_bytes()
    assert str(ROOT).encode() not in data
    session = runtime.InferenceSession(data)
    assert session.get_modelmeta().custom_metadata_map["fedcli_run"] == run.id
    scorer = Scorer(run.info, device="cpu", threads=1, own_model=None)
    scorer.load(weights_of(run, 1), run.round(1).global_model)
    rng = np.random.default_rng(0)
    for count in (1, 2, 7):
        x = rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
        logits, _ = scorer.outputs(x, np.zeros(count, np.int64))
        (found,) = session.run(["logits"], {"x": x})
        np.testing.assert_allclose(found, logits.numpy(), rtol=1e-4, atol=1e-5)


# --- the command lines of the card ---------------------------------------------------------------

OTHERS = [
    "partition --limit 60 --clients 4 --alpha 0.3 --min-size 2 --val-fraction 0.1 --test-split both"
    " --model resnet18 --stem cifar --norm group --algorithm scaffold --lr-schedule cosine"
    " --lr-rounds 3 --augment flip,crop --normalize imagenet --seed 7",
    "partition --limit 60 --labels disc,ring --labels square,frame --model cnn --lora 2 --trim 0.3"
    " --strategy trimmed-mean --fraction 0.5 --max-norm 5",
    "partition --limit 60 --scheme quantity --sizes 10,20,30 --optimizer adamw --steps 3 --lr 1e-3"
    " --strategy fedadam --server-lr 0.1 --bias-correction --model linear",
    "partition --limit 60 --algorithm ditto --ditto-lambda 0.3 --strategy median --model linear",
    "init --classes 'no mole,a mole' --clients x,y --channels 1 --image-size 16 --freeze conv1"
    " --model resnet18 --local-layers 'layer4.*.bn1,fc' --initial-loss",
]


@pytest.mark.parametrize("line", OTHERS, ids=range(len(OTHERS)))
def test_the_first_command_makes_the_same_run(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(None):
        assert execute([*shlex.split(line), "--run", "one", "--quiet"]) == 0
        made = Run.open(Path("one"))
        (again,) = commands(made, [])
        assert execute([*shlex.split(again)[1:], "--run", "two", "--quiet"]) == 0
    assert Run.open(Path("two")).id == made.id


def test_the_commands_make_the_same_model(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for directory in (here, there):
        directory.mkdir()
    make = ["--clients", 2, "--limit", 60, "--model", "linear", "--epochs", 1, "--lr", 0.005]
    assert fedcli("partition", *make, "--quiet", cwd=here).status == 0
    assert fedcli("run", "--rounds", 1, "--threads", 1, "--no-evaluate", cwd=here).status == 0
    other = ["--strategy", "fedadam", "--server-lr", 0.1, "--epochs", 2, "--lr", 0.003]
    more = fedcli("run", "--rounds", 3, "--threads", 1, *other, cwd=here)
    assert more.status == 0, more.err
    done = fedcli("export", "--json", "-o", "model.safetensors", cwd=here)
    card = (here / done.json["card"]).read_text()
    (script,) = re.findall(r"```sh\n(.*?)```", card, re.DOTALL)
    for line in script.splitlines():
        again = fedcli(*shlex.split(line)[1:], cwd=there)
        assert again.status == 0, (line, again.err)
    model = Run.open(there / "fedrun").round(3).global_model
    assert digest(model) == done.json["model_sha256"]
    assert "| 2-3 | fedadam (server lr 0.1) |" in card


def test_what_the_plan_does_not_say_is_in_the_commands(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", Plan(TrainPlan(epochs=1, batch_size=16)))
    run = Run(run.root, replace(run.info, origin={"step": "partition"}), run.id)
    play(run, 1, {}, {})
    play(run, 2, {"lr": 0.02, "algorithm": "fedprox", "mu": 0.5}, {"reduce": "median"})
    _, first, second = commands(run, history(run, 3))
    assert first == "fedcli run --rounds 1 --threads 1"
    words = shlex.split(second)
    manifest = Manifest.try_read(run.round(3).manifest)
    assert manifest is not None
    typed = {"--lr": "0.02", "--algorithm": "fedprox", "--mu": "0.5", "--reduce": "median"}
    assert typed == {option: words[words.index(option) + 1] for option in typed}
    assert words[:4] == ["fedcli", "run", "--rounds", "3"]


def test_labels_of_a_table_are_in_the_commands_of_the_model_card(tmp_path):
    for number in range(8):
        Image.effect_noise((8, 8), 9 + number).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number},{number % 2}\n" for number in range(8))
    (tmp_path / "labels.csv").write_text(f"id,label\n{rows}")
    fedcli(
        "partition", "--dataset", "imagefolder:.", "--labels-csv", "labels.csv",
        "--model", "linear", "--clients", 2, cwd=tmp_path,
    )  # fmt: skip
    run = Run.open(tmp_path / "fedrun")
    assert any("--labels-csv FILE" in line for line in commands(run, []))
    assert run.info.dataset.classes == ("0", "1")


def score_round(run: Run, number: int, **figures: Any) -> None:
    """Write the scores of a round's model as they are to be."""
    model = digest(run.round(number).global_model)
    facts = {"accuracy": 0.5, "sha256": model, **figures}
    Evaluation((Score("global", "test", 8, **facts),), number).write(run.round(number).evaluation)


def test_the_best_round_is_the_one_with_the_best_score_and_of_several_the_earliest(
    run: Run, tmp_path: Path
) -> None:
    for number, (accuracy, loss) in enumerate([(0.25, 2.0), (0.75, 1.5), (0.75, 1.0)]):
        score_round(run, number, accuracy=accuracy, loss=loss)
    first = export(run, round_number="best", output=tmp_path / "first.safetensors")
    assert first.round == 1
    assert first.best is not None
    assert (first.best.metric, first.best.value, first.best.rounds) == ("accuracy", 0.75, 3)
    last = export(run, round_number="best", metric="loss", output=tmp_path / "last.safetensors")
    assert last.round == 2
    plain = export(run, round_number=1, output=tmp_path / "first.safetensors")
    assert plain.already_done
    assert plain.best is None


def test_it_says_which_round_is_the_best_and_which_could_not_compete(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    score_round(run, 1, accuracy=0.625)
    words = ["export", "--run", str(run.root), "--round", "best"]
    assert execute(words) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "round 1 has the best accuracy: 0.6250 (global model on test, 1 scored round);"
        " without a score: rounds 0, 2\n"
    )
    assert execute([*words, "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["unscored"] == [0, 2]
    assert Path("run-round-1.safetensors").exists()


def test_without_scores_there_is_no_best_round(run: Run) -> None:
    with pytest.raises(NotReadyError) as caught:
        export(run, round_number="best")
    assert "evaluate --round all" in (caught.value.hint or "")
    score_round(run, 1)
    with pytest.raises(NotReadyError, match="scored by its AUC"):
        export(run, round_number="best", metric="auc")
    with pytest.raises(UsageError, match="--metric: says which round is the best"):
        export(run, metric="auc")
    with pytest.raises(UsageError, match="found 'accurate'"):
        export(run, round_number="best", metric="accurate")


def test_scores_of_another_model_choose_no_round(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_round(run, 1, accuracy=0.5)
    score_round(run, 2, accuracy=0.75, sha256="0" * 64)
    monkeypatch.chdir(tmp_path)
    assert export(run, round_number="best").round == 1  # by the manifest of round 2
    run.round(2).manifest.unlink()
    with pytest.raises(BadInputError, match="scores of another model") as caught:
        export(run, round_number="best")
    assert "evaluate --round 2" in (caught.value.hint or "")
