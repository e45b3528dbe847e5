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


@pytest.mark.parametrize("key", ["loss", "macro_f1", "balanced_accuracy", "sha256", "confusion"])
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
