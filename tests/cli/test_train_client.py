"""``fedcli train-client`` as its users call it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.grey_runs import Cli, examples
from support.runs import fedcli

from fedcli.algorithms import ALGORITHMS
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind
from fedcli.formats.records import encode
from fedcli.run import Run
from fedcli.steps.train_client import train_client


def of(algorithm: str) -> tuple[str, str]:
    return ("--algorithm", algorithm)


FEDPROX, SCAFFOLD = of("fedprox"), of("scaffold")


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_client_delivers_exactly_two_files(run: Run, cli: Cli) -> None:
    before = files(run.root)
    found, out, err = cli("train-client", "--id", "1", "--epochs", "2")
    assert found == 0
    assert files(run.root) - before == {
        "rounds/0001/updates/1.json",
        "rounds/0001/updates/1.safetensors",
    }
    assert "client 1  epoch 2/2  loss" in err
    assert "next: fedcli train-client --id 0,2" in out


def test_steps_and_the_loss_at_the_start_are_recorded(run: Run, cli: Cli) -> None:
    train = ("train-client", "--id", 1, "--epochs", 2, "--batch-size", 20)
    assert cli(*train, "--initial-loss")[0] == 0
    with Checkpoint(run.round(1).update("1")) as update:
        training = encode(update.metadata.training)
    shard = examples(1, 41)
    with Checkpoint(run.round(0).global_model) as model:
        weight, bias = (model.tensor(f"fc.{name}").astype(float) for name in ("weight", "bias"))
    inputs = ((shard["x"] / 255 - 0.5) / 0.25).reshape(41, -1)
    logits = inputs @ weight.T + bias
    chosen = logits[np.arange(41), shard["y"]]
    loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - chosen)
    assert training["steps"] == 2 * 2  # 20 and 21: no batch of one
    assert training["initial_loss"] == pytest.approx(loss, rel=1e-5)
    assert "already trained" in cli(*train, "--initial-loss")[2]
    found, _, err = cli(*train)
    assert found == 5
    assert "--initial-loss True, not False" in err


def test_a_plan_with_qfedavg_asks_for_the_loss_at_the_start(run: Run, cli: Cli) -> None:
    found, _, _ = cli("run", "--rounds", 1, "--strategy", "qfedavg", "--epochs", 1)
    assert found == 0
    manifest = Manifest.try_read(run.round(1).manifest)
    assert manifest is not None
    assert (manifest.strategy, manifest.options["q"]) == ("qfedavg", 1.0)


def test_an_update_says_what_it_is(run: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", 1, "--lr", 0.1, "--threads", 1, "--augment", "flip")[0] == 0
    with Checkpoint(run.round(1).update("1"), Kind.UPDATE) as update:
        metadata = update.metadata
        telemetry = json.loads(run.round(1).telemetry("1").read_text())
        assert telemetry["sha256"] == update.digest()
        assert telemetry["bytes"] == update.size
    assert (metadata.run, metadata.round, metadata.client) == (run.id, 1, "1")
    assert metadata.num_examples == 41
    assert metadata.base == digest(run.round(0).global_model)
    assert metadata.seed == 7
    assert encode(metadata.training) == {
        "algorithm": "fedavg",
        "optimizer": "sgd",
        "epochs": 5,
        "lr": 0.1,
        "batch_size": 64,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "augment": ["flip"],
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "steps": 5,
        "examples": metadata.training.examples,
    }
    assert len(telemetry["epochs"]) == 5
    assert telemetry["images_per_second"] > 0
    assert telemetry["peak_memory_bytes"] > 1e6


def test_same_bytes_one_by_one_together_and_in_another_process(run: Run, cli: Cli) -> None:
    elsewhere = Path("other")
    shutil.copytree(run.root, elsewhere)
    assert cli("train-client", "--id", "0-2", "--threads", 1)[0] == 0
    for client in ("2", "0"):
        assert cli("train-client", "-r", elsewhere, "--id", client, "--threads", 1)[0] == 0
    assert (
        fedcli("train-client", "-r", elsewhere, "--id", 1, "--threads", 1, cwd=Path()).status == 0
    )
    for client in run.info.clients:
        update = run.round(1).update(client)
        assert update.read_bytes() == Run.open(elsewhere).round(1).update(client).read_bytes()


def test_repeating_changes_nothing_and_other_inputs_are_a_conflict(run: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", "0")[0] == 0
    update = run.round(1).update("0")
    before = (update.read_bytes(), update.stat().st_mtime_ns)
    found, out, _ = cli("train-client", "--id", "0")
    assert found == 0
    assert "before" in out
    found, _, err = cli("train-client", "--id", "0", "--lr", "0.5")
    assert found == 5
    assert "--lr 0.01, not 0.5" in err
    assert "--force" in err
    assert (update.read_bytes(), update.stat().st_mtime_ns) == before
    assert cli("train-client", "--id", "0", "--lr", "0.5", "--force")[0] == 0
    assert update.read_bytes() != before[0]


def test_what_the_machine_decides_is_no_conflict_but_what_is_typed_is(run: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", "0", "--threads", "2")[0] == 0
    assert cli("train-client", "--id", "0")[0] == 0
    found, _, err = cli("train-client", "--id", "0", "--threads", "1")
    assert found == 5
    assert "--threads 2, not 1" in err


def test_other_examples_of_the_same_number_are_a_conflict(run: Run, cli: Cli) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        np.savez(f"{name}.npz", **examples(seed, 30))
    assert cli("train-client", "--id", "0", "--data", "a.npz")[0] == 0
    assert cli("train-client", "--id", "0", "--data", "a.npz")[0] == 0
    found, _, err = cli("train-client", "--id", "0", "--data", "b.npz")
    assert found == 5
    assert "other examples" in err


def test_an_update_that_went_into_a_model_is_not_replaced(run: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", "all", "--epochs", 1)[0] == 0
    assert cli("aggregate")[0] == 0
    before = run.round(1).update("0").read_bytes()
    found, _, err = cli("train-client", "--id", 0, "--round", 1, "--epochs", 2, "--force")
    assert found == 5
    assert "round 1 is complete" in err
    assert run.round(1).update("0").read_bytes() == before


def test_a_broken_update_is_named_and_force_mends_it(run: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", "0", "--epochs", 1)[0] == 0
    update = run.round(1).update("0")
    whole = update.read_bytes()
    update.write_bytes(whole[:-8])
    found, _, err = cli("train-client", "--id", "0", "--epochs", 1)
    assert found == 4
    assert "0.safetensors: truncated" in err
    assert "--force" in err
    assert cli("train-client", "--id", "0", "--epochs", 1, "--force")[0] == 0
    assert update.read_bytes() == whole


def test_the_plan_is_used_and_options_override_it(run: Run) -> None:
    result = train_client(run, ["0"], options={"epochs": 1, "lr": None})
    assert result.training["epochs"] == 1
    assert result.training["lr"] == run.info.plan.train.lr


def test_json_is_one_object(run: Run, cli: Cli) -> None:
    found, out, err = cli("train-client", "--id", "all", "--epochs", 1, "--json", "--quiet")
    value = json.loads(out)
    assert found == 0
    assert err == ""
    assert value["schema"] == 1
    assert value["command"] == "train-client"
    assert [client["client"] for client in value["clients"]] == ["0", "1", "2"]
    assert value["clients"][0]["epochs"][0]["loss"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["--id", "9"], 2, "no client '9'; it has: 0, 1, 2"),
        (["--id", "../x"], 2, "client id '../x'"),
        (["--id", "3-1"], 2, "expected a range"),
        (["--id", "0", "--round", "3"], 3, "round 2 has no global model; the open round is 1"),
        (["--id", "0", "--round", "0"], 2, "0 is the starting model"),
        (["--id", "0", "--round", "one"], 2, "--round"),
        (["--id", "0", "--lr", "0"], 2, "--lr: expected a number above 0"),
        (["--id", "0", "--lr", "nan"], 2, "--lr: expected a finite number"),
        (["--id", "0", "--epochs", "-1"], 2, "--epochs"),
        (["--id", "0", "--batch-size", "0"], 2, "--batch-size"),
        (["--id", "0", "--momentum", "-1"], 2, "--momentum"),
        (["--id", "0", "--augment", "spin"], 2, "unknown value 'spin'; known: flip, crop"),
        (["--id", "0", "--device", "abacus"], 2, "--device"),
        (["--id", "0", "--model", "my:net"], 2, "this run's model is linear"),
        (["--id", "0,1", "--data", "x"], 2, "--data: belongs to one client"),
        (["--id", "0", "--data", "absent"], 3, "absent"),
        (["--id", "0", "--run", "nowhere"], 4, "nowhere: not a run directory"),
        (["--id", "0", "--lr", "1e38"], 1, "diverged"),
        ([], 2, "--id: say who trains"),
        (
            ["--id", "0", "--algorithm", "fedsgd"],
            2,
            "unknown value 'fedsgd'; known: fedavg, fedprox",
        ),
        (["--id", "0", "--optimizer", "lion"], 2, "--optimizer: unknown value 'lion'; known: sgd"),
        (["--id", "0", "--mu", "1"], 2, "fedavg; it belongs to fedprox, moon"),
        (["--id", "0", *FEDPROX, "--temperature", "1"], 2, "--temperature: is not an option of"),
        (["--id", "0", *FEDPROX, "--mu", "-1"], 2, "--mu: expected a number of at least 0"),
        (
            ["--id", "0", *FEDPROX, "--proximal", "1"],
            2,
            "--proximal: fedprox has this term already",
        ),
        (["--id", "0", *of("feddyn"), "--proximal", "1"], 2, "--proximal: feddyn has a proximal"),
        (
            ["--id", "0", *SCAFFOLD, "--scaffold-option", "3"],
            2,
            "--scaffold-option: expected 1 or 2",
        ),
        (
            ["--id", "0", *SCAFFOLD, "--optimizer", "adam"],
            2,
            "scaffold derives gradients from the steps",
        ),
        (["--id", "0", *SCAFFOLD, "--precision", "fp16"], 2, "--precision fp16: skips steps"),
        (["--id", "0", *of("fednova"), "--optimizer", "adamw"], 2, "--optimizer adamw: fednova"),
        (
            ["--id", "0", *of("moon"), "--local-layers", "fc"],
            2,
            "--local-layers: moon compares whole",
        ),
        (
            ["--id", "0", *of("ditto"), "--local-layers", "fc"],
            2,
            "--local-layers: ditto keeps a whole",
        ),
        (["--id", "0", *of("fedbn")], 2, "fedbn: the model has no batch normalisation"),
        (
            ["--id", "0", "--head-epochs", "1"],
            2,
            "--head-epochs: trains only the layers of --local-layers",
        ),
        (["--id", "0", "--local-layers", "head"], 2, "--local-layers head: matches no tensor"),
        (["--id", "0", "--freeze", "fc"], 2, "leave no parameter to train and send"),
        (
            ["--id", "0", "--epochs", "1", "--steps", "1"],
            2,
            "--epochs and --steps: give one of them",
        ),
        (["--id", "0", "--steps", "0"], 2, "--steps: expected 1 or more"),
        (["--id", "0", "--lr-schedule", "cosine"], 2, "--lr-rounds: the schedule cosine needs it"),
        (["--id", "0", "--lr-every", "2"], 2, "--lr-every: the schedule constant does not use it"),
        (["--id", "0", "--label-smoothing", "1"], 2, "--label-smoothing: expected a share"),
        (["--id", "0", "--mixup", "-0.1"], 2, "--mixup: expected a number of at least 0"),
        (["--id", "0", "--clip-grad", "-1"], 2, "--clip-grad: expected a number of at least 0"),
    ],
)
def test_wrong_words_end_in_one_line_and_change_nothing(
    run: Run, cli: Cli, arguments: list[str], expected: int, words: str
) -> None:
    before = files(run.root)
    found, out, err = cli("train-client", *arguments, "--quiet")
    assert found == expected, err
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert len(lines) == 1 + lines[-1].startswith("hint: ")
    assert files(run.root) == before


def test_zero_turns_off_what_the_plan_turns_on(run: Run, cli: Cli) -> None:
    off = {"mixup": 0, "clip_grad": 0, "label_smoothing": 0, "lr_warmup": 0, "proximal": 0}
    words = [word for key, value in off.items() for word in (f"--{key.replace('_', '-')}", value)]
    assert cli("train-client", "--id", "0", "--epochs", 1, *words)[0] == 0
    with Checkpoint(run.round(1).update("0")) as update:
        training = encode(update.metadata.training)
    assert not training.keys() & off.keys()
    assert cli("train-client", "--id", "0", "--epochs", 1)[0] == 0  # the same inputs


def test_the_list_of_algorithms_needs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    found, out, err = cli("train-client", "--list")
    assert (found, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    found, out, _ = cli("train-client", "--list", "--json")
    value = json.loads(out)
    assert found == 0
    assert value["algorithms"].keys() == ALGORITHMS.keys()
    assert value["algorithms"]["moon"]["options"] == {"mu": 1.0, "temperature": 0.5}
    assert value["schedules"]["step"]["options"] == {"lr_decay": None, "lr_every": None}
    for kind in ("algorithms", "optimizers", "schedules", "augmentations"):
        assert all(row["summary"] for row in value[kind].values())
    assert list(tmp_path.iterdir()) == []


def test_an_algorithm_that_is_typed_brings_its_strategy(run: Run, cli: Cli) -> None:
    found, _, err = cli("run", "--rounds", 2, *SCAFFOLD, "--epochs", 1, "--no-evaluate")
    assert found == 0, err
    manifest = Manifest.try_read(run.round(2).manifest)
    assert manifest is not None
    assert (manifest.strategy, manifest.server_optimizer) == ("scaffold", "scaffold")
    found, _, err = cli("run", "--rounds", 3, *SCAFFOLD, "--strategy", "fedavg")
    assert found == 2
    assert "needs the server optimizer scaffold, but the rule has sgd" in err


def test_errors_are_json_too_when_asked(run: Run, cli: Cli) -> None:
    for arguments, kind in ((["--id", "9"], "usage"), (["--nonsense"], "usage")):
        found, out, _ = cli("train-client", *arguments, "--json")
        value = json.loads(out)
        assert found == 2
        assert value["schema"] == 1
        assert value["error"]["kind"] == kind
        assert value["error"]["message"]


def test_a_client_without_data_is_told_how_to_bring_it(run: Run, cli: Cli) -> None:
    run.client_shard("1").unlink()
    found, _, err = cli("train-client", "--id", "1")
    assert found == 3
    assert "fedcli train-client --id 1 --data PATH" in err.splitlines()[1]


def test_a_broken_base_model_is_named(run: Run, cli: Cli) -> None:
    base = run.round(0).global_model
    base.write_bytes(base.read_bytes()[:-8])
    found, _, err = cli("train-client", "--id", "1")
    assert found == 4
    assert "global.safetensors: truncated" in err
