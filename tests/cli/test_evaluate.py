"""``fedcli evaluate`` as its users call it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.grey_runs import Cli, examples

from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.run import Run


def test_evaluate_scores_the_latest_model_and_keeps_it(run: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", "all", "--lr", 0.1)[0] == 0
    assert cli("aggregate")[0] == 0
    found, out, _ = cli("evaluate")
    assert found == 0
    assert "most taken for" in out
    entry = json.loads(run.round(1).evaluation.read_text())["results"][0]
    assert entry["examples"] == 60
    assert entry["accuracy"] > 0.6
    assert entry["sha256"] == digest(run.round(1).global_model)
    assert sum(map(sum, entry["confusion"])) == 60
    before = run.round(1).evaluation.stat().st_mtime_ns
    found, out, _ = cli("evaluate")
    assert "there already" in out
    assert run.round(1).evaluation.stat().st_mtime_ns == before
    assert cli("evaluate", "--force")[0] == 0
    assert run.round(1).evaluation.stat().st_mtime_ns != before


def test_evaluate_rounds_clients_classes_and_updates(run: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", "0,2")[0] == 0

    def evaluations(*arguments: object) -> list[dict[str, Any]]:
        found, out, err = cli("evaluate", *arguments, "--json")
        assert found == 0, err
        value: list[dict[str, Any]] = json.loads(out)["evaluations"]
        return value

    assert [e["round"] for e in evaluations("--round", "all")] == [0]
    assert evaluations("--id", 2)[0]["client"] == "2"
    assert evaluations("--id", 2)[0]["round"] == 1
    assert [e["client"] for e in evaluations("--id", "2,0")] == ["0", "2"]
    on_clients = evaluations("--clients")
    assert [(e["data"], e["data_client"]) for e in on_clients] == [
        ("validation", client) for client in run.info.clients
    ]
    (some,) = evaluations("--classes", "loud,0")
    assert some["classes"] == ["dark", "loud"]
    assert [row["examples"] > 0 for row in some["per_class"]] == [True, False, True]
    stored = json.loads(run.round(0).evaluation.read_text())["results"]
    assert len(stored) == 5


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["--round", "7"], 3, "round 7 has no global model; the latest is 0"),
        (["--round", "newest"], 2, "expected a number, latest or all"),
        (["--id", "1"], 3, "no update of client 1"),
        (["--classes", "quiet"], 2, "unknown class 'quiet'; known: dark, bright, loud"),
        (["--classes", ""], 2, "at least one class"),
        (["--clients", "--data", "x"], 2, "exclude each other"),
        (["--data", "absent"], 3, "absent"),
    ],
)
def test_wrong_words_to_evaluate(
    run: Run, cli: Cli, arguments: list[str], expected: int, words: str
) -> None:
    found, _, err = cli("evaluate", *arguments)
    assert found == expected, err
    assert words in err.splitlines()[0]
    assert not run.round(0).evaluation.exists()


def test_a_broken_evaluation_file_is_named(run: Run, cli: Cli) -> None:
    run.round(0).evaluation.write_text('{"results": [{}]}')
    found, _, err = cli("evaluate")
    assert found == 4
    assert "evaluation.json" in err


@pytest.mark.parametrize("key", ["loss", "macro_f1", "auc", "sha256", "confusion"])
def test_a_score_that_lacks_a_figure_is_computed_again(run: Run, cli: Cli, key: str) -> None:
    assert cli("evaluate")[0] == 0
    path = run.round(0).evaluation
    whole = json.loads(path.read_text())
    lacking = json.loads(path.read_text())
    del lacking["results"][0][key]
    path.write_text(json.dumps(lacking))
    status, out, err = cli("evaluate")
    assert status == 0, err
    assert "there already" not in out
    assert json.loads(path.read_text())["results"][0][key] == whole["results"][0][key]


def test_scores_on_own_data_do_not_hide_those_on_the_test_set(run: Run, cli: Cli) -> None:
    for folder, seed in (("a", 1), ("b", 2)):
        Path(folder).mkdir()
        np.savez(Path(folder, "test.npz"), **examples(seed, 30))
        assert cli("evaluate", "--data", f"{folder}/test.npz")[0] == 0
    assert cli("evaluate")[0] == 0
    assert cli("evaluate", "--data", "a/test.npz")[1].count("there already") == 1
    results = json.loads(run.round(0).evaluation.read_text())["results"]
    names = sorted(entry["data"] for entry in results)
    assert len(set(names)) == 3
    assert "test" in names
    assert [entry["examples"] for entry in results if entry["data"] == "test"] == [60]


def test_a_model_that_overflowed_is_not_scored(run: Run, cli: Cli) -> None:
    with Checkpoint(run.round(0).global_model) as model:
        huge = {name: np.full_like(array, 3e38) for name, array in model.tensors().items()}
        save(run.round(1).global_model, huge, replace(model.metadata, round=1))
    found, _, err = cli("evaluate")
    assert found == 4
    assert "global.safetensors: its outputs are NaN or infinite" in err


@pytest.fixture
def of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Run:
    """A run of two classes, in the current directory."""
    monkeypatch.chdir(tmp_path)
    found = examples(1, 200)
    known = found["y"] != 2
    np.savez("two.npz", x=found["x"][known], y=found["y"][known])
    arguments = ("--dataset", "npz:two.npz", "--clients", 2, "--model", "linear", "--epochs", 1)
    status, _, err = cli("partition", *arguments)
    assert status == 0, err
    return Run.open(Path("fedrun"))


def test_two_classes_have_a_roc_curve_and_what_follows_from_it(of_two: Run, cli: Cli) -> None:
    status, out, err = cli("evaluate")
    assert status == 0, err
    assert "sens. (%)" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "95 % intervals: accuracy (%) " in out
    assert "AUC 0." in " ".join(out.split()).split("intervals")[1]
    (entry,) = json.loads(of_two.round(0).evaluation.read_text())["results"]
    assert entry["sensitivity"] == entry["per_class"][1]["accuracy"]
    assert entry["specificity"] == entry["per_class"][0]["accuracy"]
    low, high = entry["auc_interval"]
    assert low <= entry["auc"] <= high
    counts = [row["examples"] for row in entry["per_class"]]
    assert [entry["roc"][side][-1] for side in ("false_positives", "true_positives")] == counts


def test_the_scores_of_several_clients_fit_beside_their_names(of_two: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", "all")[0] == 0
    status, out, err = cli("evaluate", "--id", "all")
    assert status == 0, err
    assert max(map(len, out.splitlines())) <= 80
    assert "sens." in out
    assert "…" not in out
    assert [line.split()[0] for line in out.splitlines() if "." in line][-2:] == ["0", "1"]


def test_only_a_global_model_on_common_data_keeps_its_curve(of_two: Run, cli: Cli) -> None:
    """Else those of ten thousand clients would not fit into the file."""
    assert cli("train-client", "--id", "all")[0] == 0
    assert cli("evaluate", "--id", "all")[0] == 0
    (first, second) = json.loads(of_two.round(1).evaluation.read_text())["results"]
    assert first["auc"] is not None
    assert (first["roc"], second["roc"]) == (None, None)
    assert "there already" in cli("evaluate", "--id", "all")[1]


@pytest.mark.parametrize("key", ["auc", "roc", "sensitivity", "specificity"])
def test_a_score_of_two_classes_without_a_figure_is_computed_again(
    of_two: Run, cli: Cli, key: str
) -> None:
    path = of_two.round(0).evaluation
    assert cli("evaluate")[0] == 0
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | {"results": [whole["results"][0] | {key: None}]}))
    assert cli("evaluate")[0] == 0
    assert json.loads(path.read_text())["results"][0][key] == whole["results"][0][key]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"auc_interval": [0.9, 0.1]}, "auc_interval: expected two numbers from 0 to 1"),
        ({"auc_interval": [0.1]}, "auc_interval: expected two numbers from 0 to 1"),
        ({"roc": {"false_positives": [0, 3], "true_positives": [0]}}, "roc: expected two lists"),
        ({"roc": {"false_positives": [0, 3], "true_positives": [3, 0]}}, "roc: expected two lists"),
        ({"roc": {"false_positives": [0, 0], "true_positives": [0, 1]}}, "roc: expected two lists"),
    ],
)
def test_impossible_figures_are_refused(
    run: Run, cli: Cli, changes: dict[str, Any], words: str
) -> None:
    assert cli("evaluate")[0] == 0
    path = run.round(0).evaluation
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"results": [found["results"][0] | changes]}))
    status, _, err = cli("evaluate")
    assert status == 4
    assert words in err
