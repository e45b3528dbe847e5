"""Commands on private runs: they do without what is withheld, and say so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedcli.cli import execute

Cli = Callable[..., tuple[int, str, str]]
PRIVATE = "--dp example --clip 1 --noise-multiplier 1"
PHRASE = "private clients withhold numbers of examples, losses, times and memory"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private simulation of two rounds."""
    folder = tmp_path_factory.mktemp("private")
    run, key = str(folder / "fedrun"), str(folder / "noise.key")
    made = f"partition --run {run} --limit 60 --clients 2 --model linear --epochs 1 --batch-size 8"
    assert execute(f"{made} {PRIVATE} --quiet".split()) == 0
    assert execute(f"keygen --run {run} --noise {key} --quiet".split()) == 0
    told = f"run --run {run} --rounds 2 --noise-key {key} --jobs 1 --threads 1 --quiet"
    assert execute(told.split()) == 0
    return folder


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "private") / "fedrun"


def test_clients_count_alike_unless_another_weighting_is_asked_for(
    run: Path, tmp_path: Path, cli: Cli
) -> None:
    assert json.loads((run / "run.json").read_text())["plan"]["aggregate"]["weighting"] == "uniform"
    for make in ("partition --limit 60 --clients 2", "init --classes a,b --clients x,y"):
        words = f"{make} --run {tmp_path / 'other'} {PRIVATE} --weighting examples".split()
        status, _, err = cli(*words)
        assert status == 2
        assert "--weighting examples: --dp example withholds the number of examples" in err
        assert "--weighting uniform counts clients alike" in err
        assert not (tmp_path / "other").exists()


def test_run_refuses_before_anybody_trains(tmp_path: Path, cli: Cli) -> None:
    root, key = tmp_path / "fedrun", tmp_path / "noise.key"
    cli(*f"partition --run {root} --limit 60 --clients 2 --model linear --epochs 1".split())
    cli("keygen", "--run", root, "--noise", key)
    words = f"run --run {root} --rounds 1 --noise-key {key} {PRIVATE}".split()
    status, _, err = cli(*words)
    assert status == 2
    assert "--weighting examples: --dp example withholds" in err
    assert not (root / "rounds/0001").exists()


def test_the_report_says_it_once_and_has_no_empty_columns(run: Path, cli: Cli) -> None:
    status, out, _ = cli("report", "--run", run)
    assert status == 0
    assert " ".join(out.split()).count(PHRASE) == 1
    for column in ("local loss", "images/s"):
        assert column not in out
    status, out, _ = cli("report", "--run", run, "--json")
    client = json.loads(out)["runs"][0]["rounds"][1]["clients"][0]
    for key in ("num_examples", "local_loss", "local_accuracy", "seconds", "images_per_second"):
        assert client.get(key) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("inspect rounds/0001/updates/0.safetensors", "num_examples  withheld"),
        ("status", ""),
        ("verify", ""),
        ("report --figures figures", ""),
        ("report --html report.html", ""),
        ("report --details", PHRASE),
        ("gc --keep-last 1", ""),
    ],
)
def test_every_view_works_without_it(
    run: Path, cli: Cli, words: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    status, out, err = cli(*words.split())
    assert status == 0, err
    assert said in " ".join(out.split()).replace("num_examples withheld", "num_examples  withheld")


def test_the_card_of_the_model_says_it_too(run: Path, cli: Cli, tmp_path: Path) -> None:
    status, _, err = cli("export", "--run", run, "-o", tmp_path / "model.safetensors")
    assert status == 0, err
    card = next(tmp_path.glob("*.md")).read_text()
    assert "| 0 | withheld | 2 |" in card


def test_a_client_may_be_private_where_others_are_not(tmp_path: Path, cli: Cli) -> None:
    root, key = tmp_path / "fedrun", tmp_path / "noise.key"
    cli(*f"partition --run {root} --limit 60 --clients 2 --model linear --epochs 1".split())
    cli("keygen", "--run", root, "--noise", key)
    train = f"train-client --run {root} --threads 1 --id"
    assert cli(*f"{train} 0 --noise-key {key} {PRIVATE}".split())[0] == 0
    assert cli(*f"{train} 1".split())[0] == 0
    status, _, err = cli("aggregate", "--run", root)
    assert status == 4
    assert "updates/0.safetensors: withholds its number of examples" in " ".join(err.split())
    status, out, _ = cli("aggregate", "--run", root, "--weighting", "uniform")
    assert status == 0
    assert "withheld" in out
    assert PHRASE in " ".join(cli("report", "--run", root)[1].split())


def _scored(run: Path) -> list[str | None]:
    file = run / "rounds/0002/evaluation.json"
    return [one["data_client"] for one in json.loads(file.read_text())["results"]]


def test_scores_on_a_clients_examples_are_printed_and_not_stored(
    run: Path, cli: Cli, tmp_path: Path
) -> None:
    held_out, key = tmp_path / "fedrun", run.parent / "noise.key"
    made = f"partition --limit 60 --clients 2 --model linear --epochs 1 {PRIVATE} --quiet"
    cli(*f"{made} --test-split both --run {held_out}".split())
    trained = f"run --rounds 2 --jobs 1 --threads 1 --no-evaluate --run {held_out}"
    cli(*trained.split(), "--noise-key", key)
    evaluate = ("evaluate", "--run", held_out)
    cli(*evaluate)
    assert _scored(held_out) == [None]  # the common test set
    status, out, _ = cli(*evaluate, "--clients", "--json")
    assert status == 0
    result = json.loads(out)
    assert (len(result["evaluations"]), result["not_stored"]) == (2, 2)
    assert _scored(held_out) == [None]
    assert "not stored in the run (--store): 2 scores" in cli(*evaluate, "--clients")[1]
    assert "not stored" not in cli(*evaluate, "--clients", "--store")[1]
    assert set(_scored(held_out)) == {None, "0", "1"}


def test_own_data_may_be_a_clients_where_no_data_is_in_the_run(
    run: Path, cli: Cli, tmp_path: Path
) -> None:
    x = np.zeros((4, 3, 32, 32), np.uint8)
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(4))
    before = _scored(run)
    evaluate = ("evaluate", "--run", run, "--data", tmp_path / "own.npz", "--json")
    assert json.loads(cli(*evaluate, "--no-store")[1])["not_stored"] == 1
    shutil.rmtree(run / "data")
    assert json.loads(cli(*evaluate)[1])["not_stored"] == 1
    assert _scored(run) == before
    assert json.loads(cli(*evaluate, "--store")[1])["not_stored"] == 0
    assert len(_scored(run)) == len(before) + 1


def test_a_round_that_hides_clients_stores_no_score_of_one_update(tmp_path: Path, cli: Cli) -> None:
    root, key = tmp_path / "fedrun", tmp_path / "noise.key"
    cli("keygen", "--run", root, "--noise", key)
    words = "partition --limit 60 --clients 2 --model linear --epochs 1 --update-clip 1"
    assert cli(*f"{words} --update-noise 1 --noise-key {key} --run {root}".split())[0] == 0
    assert cli(*f"train-client --run {root} --id all --threads 1".split())[0] == 0
    status, out, err = cli(*f"evaluate --run {root} --round 1 --id all --json".split())
    assert status == 0, err
    assert json.loads(out)["not_stored"] == 2
    assert not (root / "rounds/0001/evaluation.json").exists()
