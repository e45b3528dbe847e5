"""The examples, run as a person runs them, but small; and README's line of seven commands."""

import csv
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pages import (
    README,
    ROOT,
    blocks,
    environment,
    python_program,
    run_shell,
    shell_script,
    venv,
)
from support.runs import fedcli
from support.thorough import THOROUGH

CIFAR = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def example(name: str, *arguments: str, cwd: Path, **variables: str) -> None:
    """Run one of the scripts with the program that is tested; nothing is installed."""
    script = ROOT / "examples" / name
    words = " ".join(["sh", f"'{script}'", *(f"'{word}'" for word in arguments)])
    run_shell(words, cwd, **{"FEDCLI_VENV": str(venv()), **variables})


def report_of(*runs: str, cwd: Path) -> dict[str, Any]:
    """The report of some runs; what holds of every report is checked here."""
    report = fedcli("report", *runs, "--json", cwd=cwd).json
    assert len(report["runs"]) == len(report["summary"]) == len(runs)
    for row in report["summary"]:
        assert 0 <= row["accuracy"] <= row["best"] <= 1
        assert (row["bytes_total"] == 0) == row["centralised"]
    return report


def files(folder: Path) -> list[str]:
    """All files below a folder, by their path in it."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def files_of_a_run(clients: int, rounds: int) -> list[str]:
    """What a simulation that is evaluated every round consists of."""
    numbers = range(1, rounds + 1)
    return sorted(
        [
            "run.json",
            "data/partition.json",
            "data/test.safetensors",
            *(f"data/client-{client}.safetensors" for client in range(clients)),
            "rounds/0000/global.safetensors",
            *(
                f"rounds/{number:04d}/{name}"
                for number in numbers
                for name in ("aggregate.json", "evaluation.json", "global.safetensors")
            ),
            *(
                f"rounds/{number:04d}/updates/{client}.{suffix}"
                for number, client in itertools.product(numbers, range(clients))
                for suffix in ("json", "safetensors")
            ),
        ]
    )


def is_page(path: Path) -> bool:
    """Whether a file is one HTML page that draws plots and fetches nothing."""
    text = path.read_text(encoding="utf-8")
    return text.startswith("<!DOCTYPE html>") and "<svg" in text and 'src="http' not in text


def test_the_commands_of_the_readme_work_in_an_empty_directory(tmp_path: Path) -> None:
    (block,) = blocks(README, "sh")
    assert block.text.count("fedcli ") == 7
    fewer = "partition" if THOROUGH else "partition --limit 600"  # pictures of 6,000
    run_shell(shell_script(README).replace("partition", fewer), tmp_path)
    assert files(tmp_path) == [f"fedrun/{name}" for name in files_of_a_run(clients=3, rounds=1)]

    status = fedcli("status", "--json", cwd=tmp_path).json
    assert status["open_round"] == 2
    assert status["missing"] == ["0", "1", "2"]
    assert status["evaluated"] == [1]
    assert status["next"] == "fedcli train-client --id all"

    report = report_of("fedrun", cwd=tmp_path)
    assert report["summary"][0]["accuracy"] > 0.2  # chance is 0.1


def test_quickstart(tmp_path: Path) -> None:
    # in processes of their own, as a person runs it, whatever the other examples do
    example("quickstart.sh", cwd=tmp_path, LIMIT="300", FEDCLI_VENV=sys.prefix)
    made = [*files_of_a_run(clients=3, rounds=1), "report.html"]
    assert files(tmp_path) == sorted(f"fedrun/{name}" for name in made)
    assert is_page(tmp_path / "fedrun" / "report.html")


def test_fedavg_loop(tmp_path: Path) -> None:
    example("fedavg.sh", "loop", "2", cwd=tmp_path, LIMIT="400")
    assert files(tmp_path / "loop") == files_of_a_run(clients=4, rounds=2)
    (run,) = report_of("loop", cwd=tmp_path)["runs"]
    assert [round_["number"] for round_ in run["rounds"]] == [0, 1, 2]
    assert all(len(round_["clients"]) == 4 for round_ in run["rounds"][1:])
    assert sum(client["examples"] for client in run["clients"]) == 400


def test_three_hospitals(tmp_path: Path) -> None:
    example(
        "three-hospitals.sh", "here", cwd=tmp_path, PICTURES="12", WARM_UP="100", IMAGE_SIZE="32"
    )
    study = tmp_path / "here" / "study"
    assert not (study / "data").exists()  # nothing of a hospital's data is in the run
    (run,) = report_of("here/study", cwd=tmp_path)["runs"]
    assert {client["client"] for client in run["clients"]} == {"mercy", "st-olav", "charite"}
    assert [client["examples"] for client in run["clients"]] == [24, 24, 24]
    scored = [score for round_ in run["rounds"] for score in round_["scores"]]
    assert {(score["model"], score["client"]) for score in scored} == {
        ("global", None),
        ("update", "mercy"),
    }
    assert all(score["auc"] is not None for score in scored)


def test_five_hospitals_type_three_commands_a_round(tmp_path: Path) -> None:
    example("five-hospitals.sh", "here", cwd=tmp_path, PICTURES="10", ROUNDS="2")
    here, hospitals = tmp_path / "here", {"mercy", "st-olav", "charite", "bellevue", "necker"}
    typed = (here / "typed").read_text().split()
    once = len(hospitals) + 3
    assert Counter(typed[once:]) == dict.fromkeys([*hospitals, "coordinator"], 6)
    assert {path.name for path in (here / "stick").iterdir()} == {
        *(f"round-{number}.zip" for number in (1, 2, 3)),
        *(f"from-{hospital}-{number}.zip" for hospital in hospitals for number in (1, 2)),
    }
    for hospital in hospitals:  # has nothing of the others, and they nothing of its scans
        held = files(here / hospital / "fedrun")
        updates = {Path(name).stem for name in held if "/updates/" in name}
        assert updates == {hospital}
        assert not any(name.startswith("data/") for name in held)
    (run,) = report_of("fedrun", cwd=here / "coordinator")["runs"]
    assert {client["client"] for client in run["clients"]} == hospitals


def test_private_study(tmp_path: Path) -> None:
    small = {"PICTURES": "30", "WARM_UP": "60", "ROUNDS": "1"}
    example("private-study.sh", "here", cwd=tmp_path, **small)
    here, hospitals = tmp_path / "here", {"mercy", "st-olav", "charite", "bellevue", "necker"}
    (run,) = report_of("study", cwd=here)["runs"]
    assert {client["client"] for client in run["clients"]} == hospitals
    (score,) = run["rounds"][-1]["scores"]
    assert score["auc"] is not None

    study = here / "study"
    assert not (study / "data").exists()
    assert (study / "rounds" / "0001" / "global.delta.safetensors").exists()  # encoded
    for hospital in hospitals:
        state = next((here / f"{hospital}.state").rglob(f"{hospital}.json"))
        assert state.parent.name == "privacy"  # its ledger, which is its own
        assert (study / "rounds" / "0001" / "updates" / f"{hospital}.sig").exists()
    status = fedcli("status", "--run", "study", "--privacy", "--json", cwd=here).json
    spent = status["privacy"]["examples"]
    assert {one["client"] for one in spent} == hospitals
    assert all(0 < one["epsilon"] <= 4 for one in spent)
    secrets = [path.read_bytes().split(b":")[1].strip() for path in here.glob("*.noise")]
    written = [path.read_bytes() for path in study.rglob("*") if path.is_file()]
    assert len(secrets) == 5
    assert not [1 for content in written for secret in secrets if secret in content]


def test_fine_tuning(tmp_path: Path) -> None:
    small = {"COUNT": "10", "WARM_UP": "60", "EPOCHS": "1", "IMAGE_SIZE": "32", "ROUNDS": "1"}
    example("fine-tuning.sh", "", "here", cwd=tmp_path, **small)
    assert is_page(tmp_path / "here" / "report.html")
    report = report_of("all", "last-layer", "lora", cwd=tmp_path / "here")
    assert all(set(run["classes"]) == {"normal", "nodule"} for run in report["runs"])
    update = "rounds/0001/updates/0.safetensors"
    sent = {
        name: (tmp_path / "here" / name / update).stat().st_size
        for name in ("all", "last-layer", "lora")
    }
    assert 1000 * sent["last-layer"] < sent["all"]
    assert sent["last-layer"] < sent["lora"] < sent["all"] / 20


def draw_cifar(folder: Path) -> None:
    """Draw stand-ins for CIFAR-10's pictures: each class has a colour of its own, and noise."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 3)):
        for number, name in enumerate(CIFAR):
            directory = folder / part / name
            directory.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3)) + 13 * number
                picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                picture.save(directory / f"{index:04d}.png")


def test_headline(tmp_path: Path) -> None:
    draw_cifar(tmp_path / "pictures")
    settings = {"LIMIT": "60", "ROUNDS": "2", "EPOCHS": "1", "IMAGE_SIZE": "16"}
    example("headline.sh", "pictures", "runs", cwd=tmp_path, **settings)
    (run,) = report_of("share-0.07-feedback-0-start-1-seed-0", cwd=tmp_path / "runs")["runs"]
    first, second = run["rounds"][1:]
    assert (len(first["clients"]), len(second["clients"])) == (1, 3)
    assert run["model"] == "resnet18"
    assert run["rounds"][-1]["bytes_total"] < 6e6  # one exchange of plain files: 269 MB

    plain = {"SHARE": "1", "SEEDS": "0 1", "OPTIONS": "--model cnn"}
    example("headline.sh", "pictures", "plain", cwd=tmp_path, **settings | plain)
    names = [f"share-1-feedback-0-start-1-seed-{seed}" for seed in (0, 1)]
    report = report_of(*names, cwd=tmp_path / "plain")
    assert len(report["methods"]) == 1
    for run in report["runs"]:
        size = (tmp_path / "plain" / run["label"] / "rounds/0000/global.safetensors").stat().st_size
        assert run["rounds"][-1]["bytes_total"] > 7 * size  # to clients and back, and whole


def test_cifar10_experiment(tmp_path: Path) -> None:
    draw_cifar(tmp_path / "pictures")
    model = {} if THOROUGH else {"OPTIONS": "--model cnn"}  # thirteen ResNet-18s take long
    example("cifar10.sh", "pictures", "runs", cwd=tmp_path, LIMIT="120", ROUNDS="1", **model)
    runs = tmp_path / "runs"
    names = sorted(path.name for path in runs.iterdir() if path.is_dir())
    assert names == [
        "centralised",
        "dirichlet-0.5",
        "iid",
        "six-classes-centralised",
        "two-classes-each",
    ]
    assert is_page(runs / "report.html")
    assert (runs / "report.md").read_text(encoding="utf-8").startswith("# Federated learning")
    with (runs / "report.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == set(names)

    report = report_of(*names, cwd=runs)
    centralised = {row["label"] for row in report["summary"] if row["centralised"]}
    assert centralised == {"centralised", "six-classes-centralised"}
    split = next(run for run in report["runs"] if run["label"] == "two-classes-each")
    seen = [
        [
            name
            for name, count in zip(split["classes"], client["label_counts"], strict=True)
            if count
        ]
        for client in split["clients"]
    ]
    assert seen == [["airplane", "automobile"], ["bird", "cat"], ["deer", "dog"]]
    alone = [s for r in split["rounds"] for s in r["scores"] if s["model"] == "update"]
    assert [score["client"] for score in alone] == ["0", "1", "2"]
    assert all(len(score["classes"]) == 6 for score in alone)


@pytest.mark.parametrize(
    ("name", "options", "printed"),
    [
        (
            "training.py",
            ["--model", "linear", "--pictures", "128", "--repeat", "1"],
            "fedcli / plain",
        ),
        ("aggregate.py", ["--updates", "2", "--repeat", "1", "--rules", "mean"], "| mean |"),
        (
            "limits.py",
            ["--updates", "3", "--turns", "1", "--run-turns", "0"],
            "| `aggregate --strategy krum` | hashing 3 updates |",
        ),
        ("run.py", ["--model", "linear", "--pictures", "30", "--repeat", "1"], "fedcli / loop"),
        (
            "encoding.py",
            ["--model", "linear", "--pictures", "20", "--updates", "2", "--repeat", "1"],
            "encoded / plain: wall ",
        ),
        (
            "trust.py",
            ["--model", "linear", "--pictures", "30", "--repeat", "1"],
            "with keys / without",
        ),
        ("accountant.py", ["--quick"], "| 1 | 10 | 2 | 6.30499 | 2.00000 |"),
        ("masking.py", ["3", "10", "--values", "1000"], "10 clients, 1 threads: a client "),
        ("against_opacus.py", ["--batch-size", "2", "--steps", "1", "--repeat", "1"], "Opacus"),
        ("privacy_of_peers.py", [], "| NVFLARE"),
        ("check.py", ["--pictures", "20", "--repeat", "1"], "check / decoding: "),
        ("remotes.py", ["memory://bench", "--clients", "3", "--repeat", "1"], "| default | "),
        ("engines.py", ["--repeat", "1", "--steps", "3"], "Dask / here, warm: "),
        ("report.py", ["--runs", "3", "--rounds", "2", "--repeat", "1"], "3 runs × 2 rounds"),
        (
            "fine_tuning.py",
            ["--pictures", "32", "--threads", "1", "--repeat", "1"],
            "| `--lora 8` |",
        ),
    ],
)
def test_benchmarks(name: str, options: list[str], printed: str, tmp_path: Path) -> None:
    if name == "engines.py":
        pytest.importorskip("distributed")
    process = subprocess.run(
        python_program(ROOT / "examples" / "bench" / name, *options),
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert printed in process.stdout.splitlines()[-1]
    assert files(tmp_path) == []


def printed_by(words: Sequence[str | Path], folder: Path) -> str:
    """Run a Python script to its end and return what it prints."""
    process = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_cost_of_privacy_in_accuracy(tmp_path: Path) -> None:
    script = ROOT / "examples" / "bench" / "privacy_accuracy.py"
    words = [script, "runs", "clients", "--epsilons", "8", "8", "--rounds", "1"]
    printed = printed_by(words, tmp_path)
    first, second = (line.strip("| ").split(" | ") for line in printed.splitlines())
    assert first == second  # the second time they were only read
    assert first[0] == "8"
    status = fedcli(
        "status",
        "--run",
        "runs/clients-8-0",
        "--privacy",
        "--delta",
        "1e-3",
        "--json",
        cwd=tmp_path,
    )
    assert 7.9 < status.json["privacy"]["clients"]["epsilon"] < 8.001  # the grid's share above 8


def accepted(run: Path, key: str) -> dict[str, Any]:
    """One figure of every update of round 1, as the manifest has it."""
    manifest = json.loads((run / "rounds" / "0001" / "aggregate.json").read_text())
    return {entry["client"]: entry[key] for entry in manifest["accepted"]}


def test_robustness_experiment(tmp_path: Path) -> None:
    words = [ROOT / "examples" / "robustness.py", "here", "--rounds", "1", "--limit", "200"]
    words += ["--rules", "fedavg,multi-krum", "--jobs", "1"]
    header, _, *rows = printed_by(words, tmp_path).split("\n\n")[0].splitlines()
    assert header == "| rule | none | sign flip ×10 | noise ×10 | noise ×100 | label flip |"
    assert [row.split(" | ")[0] for row in rows] == ["| fedavg", "| multi-krum --byzantine 2"]

    here = tmp_path / "here"
    honest, sent = (
        accepted(here / f"fedavg-{attack}-seed-0", "norm") for attack in ("none", "sign-flip-10")
    )
    for client, norm in honest.items():
        factor = 10 if client in ("8", "9") else 1
        assert sent[client] == pytest.approx(factor * norm, rel=1e-3)
    kept = accepted(here / "multi-krum-sign-flip-10-seed-0", "kept")
    assert [client for client in kept if not kept[client]] == ["8", "9"]
    labels = accepted(here / "fedavg-label-flip-seed-0", "sha256")
    changed = accepted(here / "fedavg-none-seed-0", "sha256").items() - labels.items()
    assert {client for client, _ in changed} == {"8", "9"}


@pytest.mark.parametrize(("name", "runs"), [("compare.toml", 18), ("niid-bench.toml", 12)])
def test_the_experiments_are_as_many_runs_as_they_say(name: str, runs: int, tmp_path: Path) -> None:
    done = fedcli("sweep", ROOT / "examples" / name, "--dry-run", cwd=tmp_path)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert [line.split()[1] for line in lines] == ["partition", "run"] * runs
    assert len({line.split()[3] for line in lines}) == runs
    read = [line for line in lines if "--dataset" in line]
    assert len(read) == len(lines) / 2 / (3 if name == "compare.toml" else 4)  # others copy it


def test_the_experiment_of_niid_bench_is_that_of_its_table(tmp_path: Path) -> None:
    first, second, *_ = fedcli(
        "sweep", ROOT / "examples" / "niid-bench.toml", "--dataset", "cifar10", "--dry-run",
        cwd=tmp_path,
    ).out.splitlines()  # fmt: skip
    assert "--rounds 50 --threads 1 --model simple_cnn:SimpleCNN" in second
    for option in (
        "--dataset cifar10", "--scheme dirichlet", "--alpha 0.5", "--clients 10", "--min-size 10",
        "--balance", "--batch-size 64", "--lr 0.01", "--momentum 0.9", "--augment crop,flip",
        "--weight-decay 1e-05", "--epochs 10",
    ):  # fmt: skip
        assert option in first


def test_the_experiment_of_niid_bench_runs_on_pictures(tmp_path: Path) -> None:
    draw_cifar(tmp_path / "pictures")
    file = ROOT / "examples" / "niid-bench.toml"
    words = ["sweep", file, "--dataset", "imagefolder:pictures", "--seed", 7, "--out", "runs"]
    small = ["--limit", 60, "--clients", 2, "--min-size", 1, "--rounds", 1, "--epochs", 1]
    path = os.pathsep.join([str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")])
    done = fedcli(*words, *small, cwd=tmp_path, PYTHONPATH=path)
    assert done.status == 0, done.err
    names = ["fedavg-seed7", "fedprox-mu0.01-seed7", "scaffold-seed7", "fednova-seed7"]
    report = report_of(*(f"runs/{name}" for name in names), cwd=tmp_path)
    assert all(run["model"] == "simple_cnn:SimpleCNN" for run in report["runs"])
