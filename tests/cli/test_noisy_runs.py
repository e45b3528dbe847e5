"""Commands on runs that protect their clients behind noise."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import python

from fedcli.cli import execute
from fedcli.formats.manifest import Manifest
from fedcli.run import Run
from fedcli.run.next_command import aggregate_command, run_command, train_command
from fedcli.security.noise_key import read_noise_key, write_noise_key

Cli = Callable[..., tuple[int, str, str]]
SMALL = "--limit 60 --clients 3 --model linear --epochs 1"
HIDDEN = "--update-clip 0.5 --update-noise 1"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation of one round, whose updates of the second are there."""
    folder = tmp_path_factory.mktemp("hidden")
    run, key = folder / "fedrun", folder / "noise.key"
    for line in (
        f"keygen --run {run} --noise {key}",
        f"partition --run {run} {SMALL} {HIDDEN} --noise-key {key}",
        f"run --run {run} --rounds 1 --noise-key {key} --jobs 1 --threads 1",
        f"train-client --run {run} --id all --threads 1",
    ):
        assert execute(f"{line} --quiet".split()) == 0
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "hidden")


def test_no_file_and_no_output_holds_the_key(folder: Path, cli: Cli) -> None:
    run, key, other = folder / "fedrun", folder / "noise.key", folder / "other.key"
    write_noise_key(other, outside=run)
    said = []
    for words in (
        f"aggregate --noise-key {key} --json --debug",
        f"aggregate --noise-key {other} --force --json --debug",
        "aggregate --update-noise 3 --force --debug",
        f"verify --replay --noise-key {key} --json",
        "status --json",
        "report --json",
    ):
        command, *rest = words.split()
        said += cli(command, "--run", run, *rest)[1:]
    secret = read_noise_key(key, outside=run)._secret
    forms = (secret, base64.b64encode(secret), secret.hex().encode(), repr(secret).encode())
    contents = [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    contents += [text.encode() for text in said]
    assert len(contents) > 20
    for form in forms:
        assert not any(form in content for content in contents)


def test_another_key_is_refused_and_changes_nothing(folder: Path, cli: Cli) -> None:
    run, other = folder / "fedrun", folder / "other.key"
    write_noise_key(other, outside=run)
    before = sorted(run.rglob("*"))
    status, out, err = cli("aggregate", "--run", run, "--noise-key", other, "--json")
    assert status == 4
    assert json.loads(out)["error"]["kind"] == "bad-input"
    assert "to which run.json commits" in err + out
    status, _, err = cli("aggregate", "--run", run)
    assert status == 2
    assert "name it with --noise-key" in err
    assert sorted(run.rglob("*")) == before


def test_adding_noise_takes_no_torch(folder: Path) -> None:
    code = (
        "import sys; from fedcli.cli import execute; assert execute(sys.argv[1:]) == 0;"
        "print('torch' in sys.modules)"
    )
    words = ["aggregate", "--run", folder / "fedrun", "--noise-key", folder / "noise.key"]
    done = python(code, *words, "--quiet")
    assert done.out.endswith("False\n")


def test_a_noise_key_goes_with_a_global_model_alone(folder: Path, cli: Cli) -> None:
    run, key = folder / "fedrun", folder / "noise.key"
    for words in (["--partial", "-o", folder / "p.safetensors"], ["--close"]):
        status, _, err = cli("aggregate", "--run", run, "--noise-key", key, *words)
        assert (status, words[0] in err) == (2, True)
        assert "adds no noise" in err


def test_what_to_type_next_names_the_key(folder: Path) -> None:
    run = Run.open(folder / "fedrun")
    assert "aggregate --noise-key FILE" in aggregate_command(run)
    assert "run --rounds 10 --noise-key FILE" in run_command(run)
    assert "noise-key" not in train_command(run, ["0"])


def test_run_refuses_a_key_that_has_no_use(tmp_path: Path, cli: Cli) -> None:
    run, key = tmp_path / "fedrun", tmp_path / "noise.key"
    cli("partition", "--run", run, *SMALL.split())
    cli("keygen", "--run", run, "--noise", key)
    status, _, err = cli("run", "--run", run, "--rounds", "1", "--noise-key", key)
    assert status == 2
    assert "--noise-key: has no use without --dp or --update-noise" in err


def test_the_report_says_how_clients_were_hidden(folder: Path, cli: Cli) -> None:
    run, key = folder / "fedrun", folder / "noise.key"
    cli("aggregate", "--run", run, "--noise-key", key, "--update-noise", "2")
    status, out, _ = cli("report", "--run", run, "--json")
    assert status == 0
    (found,) = json.loads(out)["runs"]
    first, second = (one for one in found["rounds"] if one["number"] > 0)
    assert first["rule"] == "fedavg (update clip 0.5, update noise 1)"
    assert second["client_level"]["update_noise"] == 2
    assert [client["num_examples"] for client in second["clients"]] == [None] * 3
    make, _, combine, *_ = found["recipe"]["commands"]
    assert make.endswith("--update-clip 0.5 --update-noise 1.0 --seed 0 --noise-key FILE")
    assert combine.endswith("--noise-key FILE")
    notes = [note["text"] for note in found["notes"]]
    assert any("round 2 left the plan: --update-noise 2 (plan: 1)" in note for note in notes)
    assert any("noise drowns what clients learn" in note for note in notes)


def test_a_model_card_has_the_commands_with_their_key(folder: Path, cli: Cli) -> None:
    run, key = folder / "fedrun", folder / "noise.key"
    words = ["--noise-key", key, "--update-noise", "2", "--adaptive-clip", "0.5"]
    cli("aggregate", "--run", run, *words)
    path = folder / "model.safetensors"
    assert cli("export", "--run", run, "--round", "2", "--output", path)[0] == 0
    (card,) = folder.glob("*.md")
    lines = [line for line in card.read_text().splitlines() if line.startswith("fedcli run")]
    assert lines[-1].endswith("--noise-key FILE")
    for option in ("--update-noise 2", "--adaptive-clip 0.5", "--count-noise 2"):
        assert option in lines[-1]


def test_a_sweep_hands_the_key_to_the_cases_that_draw_from_it(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = write_noise_key(tmp_path / "noise.key", outside=tmp_path / "sweep").path
    (tmp_path / "e.toml").write_text(
        "[data]\nlimit = 60\n[partition]\nclients = 2\n[model]\nmodel = 'linear'\n"
        "[train]\nepochs = 1\n[run]\nrounds = 1\nthreads = 1\n"
        "[[sweep.case]]\nlr = 0.01\n"
        "[[sweep.case]]\nlr = 0.02\nupdate_clip = 0.5\nupdate_noise = 1.0\n"
    )
    status, _, err = cli("sweep", "e.toml", "--dry-run")
    assert status == 2
    assert "noise1: its noise comes from a secret key; name it with --noise-key" in err
    status, out, _ = cli("sweep", "e.toml", "--noise-key", key, "--dry-run", "--json")
    lines = json.loads(out)["lines"]
    assert [str(key) in line for line in lines] == ["noise1" in line for line in lines]
    assert cli("sweep", "e.toml", "--noise-key", key, "--jobs", "1")[0] == 0
    (hidden,) = (tmp_path / "e").glob("*noise1")
    made = Manifest.read(Run.open(hidden).round(1).manifest)
    assert made is not None
    assert len(made.privacy) == 1
    status, _, err = cli("sweep", "--noise-key", key, "--rounds", "1", "--dry-run")
    assert (status, "has no use" in err) == (2, True)
