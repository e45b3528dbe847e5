"""``--plan``: one file for ``partition``, ``init``, ``run`` and ``sweep``; options win over it."""

import json
from pathlib import Path

import pytest
from support.runs import Finished, fedcli

from fedcli.run import Run

FILE = """
[data]
dataset = "synthetic"
limit = 60
image_size = 32
[model]
model = "linear"
[partition]
scheme = "dirichlet"
alpha = 0.3
clients = 2
[train]
epochs = 1
lr = 0.1
algorithm = "fedprox"
mu = 0.5
[aggregate]
weighting = "uniform"
[run]
rounds = 1
seed = 3
[sweep]
lr = [0.1]
"""
SWEEP_UNUSED = "e.toml: [sweep] not used: fedcli sweep e.toml runs its cases"
TYPED = (
    "--limit 60 --model linear --scheme dirichlet --alpha 0.3 --clients 2 --epochs 1 --lr 0.1"
    " --algorithm fedprox --mu 0.5 --weighting uniform --seed 3"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "e.toml").write_text(FILE)
    return tmp_path


def done(found: Finished) -> Finished:
    assert found.status == 0, found.err
    return found


def partition(folder: Path, options: str) -> bytes:
    done(fedcli("partition", "--force", *options.split(), cwd=folder))
    return (folder / "fedrun" / "run.json").read_bytes()


@pytest.mark.parametrize(
    ("with_file", "typed"),
    [
        ("", TYPED),
        ("--seed 4 --alpha 0.5", f"{TYPED} --seed 4 --alpha 0.5"),
        ("--scheme iid", f"{TYPED} --scheme iid".replace("--alpha 0.3 ", "")),
        (
            "--algorithm scaffold --strategy scaffold --steps 3 --limit 50",
            "--limit 50 --model linear --alpha 0.3 --clients 2 --steps 3 --lr 0.1"
            " --algorithm scaffold --strategy scaffold --seed 3",
        ),
    ],
)
def test_partition_takes_from_the_file_what_is_not_typed(
    folder: Path, with_file: str, typed: str
) -> None:
    assert partition(folder, f"--plan e.toml {with_file}") == partition(folder, typed)


def test_a_scheme_that_the_file_leaves_open_is_found(folder: Path) -> None:
    (folder / "e.toml").write_text(FILE.replace('scheme = "dirichlet"\n', ""))
    assert partition(folder, "--plan e.toml") == partition(folder, TYPED)
    iid = f"{TYPED} --scheme iid".replace("--alpha 0.3 ", "")
    assert partition(folder, "--plan e.toml --scheme iid") == partition(folder, iid)


def test_a_data_set_has_no_options_of_another(folder: Path) -> None:
    other = FILE.replace('"synthetic"', '"imagefolder:scans"\nskip_bad = true')
    (folder / "e.toml").write_text(other)
    assert partition(folder, "--plan e.toml --dataset synthetic") == partition(folder, TYPED)


def test_run_takes_how_to_run_from_the_file(folder: Path) -> None:
    made = done(fedcli("partition", "--plan", "e.toml", cwd=folder))
    assert "for several rounds: fedcli run --plan e.toml\n" in made.out
    done(fedcli("partition", *TYPED.split(), "--run", "typed", cwd=folder))
    found = done(fedcli("run", "--plan", "e.toml", cwd=folder))
    done(fedcli("run", "--rounds", 1, "--run", "typed", cwd=folder))
    assert SWEEP_UNUSED in found.err
    models = [folder / name / "rounds/0001/global.safetensors" for name in ("fedrun", "typed")]
    assert models[0].read_bytes() == models[1].read_bytes()
    again = done(fedcli("run", "--plan", "e.toml", "--json", cwd=folder))
    assert json.loads(again.out)["rounds"] == []
    more = fedcli("run", "--plan", "e.toml", "--rounds", 2, "--lr", 0.2, "--json", cwd=folder)
    assert json.loads(done(more).out)["rounds_complete"] == 2


def test_run_does_not_turn_off_what_the_rule_needs(folder: Path) -> None:
    text = FILE.replace("epochs = 1", "epochs = 1\ninitial_loss = false\nfreeze = []")
    text = text.replace('weighting = "uniform"', 'strategy = "qfedavg"')
    (folder / "e.toml").write_text(text)
    done(fedcli("partition", "--plan", "e.toml", cwd=folder))
    done(fedcli("run", "--plan", "e.toml", cwd=folder))


def test_run_needs_a_number_of_rounds(folder: Path) -> None:
    done(fedcli("partition", "--plan", "e.toml", cwd=folder))
    found = fedcli("run", cwd=folder)
    assert found.status == 2
    assert found.err.splitlines() == [
        "error: --rounds: say how many rounds the run is to have",
        "hint: --rounds 10, or rounds = 10 in [run] of the file of --plan",
    ]


def test_init_takes_what_it_has_and_says_what_it_has_not(folder: Path) -> None:
    found = done(fedcli("init", "--classes", "a,b", "--plan", "e.toml", cwd=folder))
    assert found.err.splitlines() == [
        "e.toml: [data], [partition] not used: clients bring their own data",
        SWEEP_UNUSED,
    ]
    typed = "--model linear --epochs 1 --lr 0.1 --algorithm fedprox --mu 0.5"
    options = f"--classes a,b {typed} --weighting uniform --seed 3 --image-size 32 --run typed"
    done(fedcli("init", *options.split(), cwd=folder))
    assert Run.open(folder / "fedrun").id == Run.open(folder / "typed").id
    (folder / "e.toml").write_text("[data]\nimage_size = 16\n")
    small = ("init", "--classes", "a,b", "--plan", "e.toml", "--force", "--json")
    quiet = done(fedcli(*small, cwd=folder))
    assert (json.loads(quiet.out)["shape"], quiet.err) == ([3, 16, 16], "")


def test_the_data_of_another_run_are_not_those_of_the_file(folder: Path) -> None:
    done(fedcli("partition", "--limit", 50, "--run", "other", cwd=folder))
    found = done(fedcli("partition", "--data-of", "other", "--plan", "e.toml", cwd=folder))
    unused = "[data], [partition] not used: --data-of takes those of another run"
    assert found.err.splitlines()[0] == f"e.toml: {unused}"
    assert len(Run.open(folder / "fedrun").info.clients) == 3


@pytest.mark.parametrize("command", ["partition", "init", "run", "sweep"])
def test_all_faults_are_said_at_once_by_every_command(folder: Path, command: str) -> None:
    done(fedcli("init", "--classes", "a,b", cwd=folder))
    (folder / "e.toml").write_text("[train]\nalpha = 1\nepoch = 3\n")
    words = ["e.toml"] if command == "sweep" else ["--plan", "e.toml"]
    found = fedcli(
        command, *words, *(["--classes", "a,b"] if command == "init" else []), cwd=folder
    )
    assert found.status == 2
    assert found.err == (
        "error: e.toml: 2 faults: [train] has an unknown key 'alpha' (alpha belongs in"
        " [partition]); [train] has an unknown key 'epoch' (did you mean epochs?)\n"
    )


def test_what_is_wrong_together_is_said_of_the_file(folder: Path) -> None:
    text = '[partition]\nscheme = "iid"\nalpha = 1.0\n[train]\nmu = 3.0\n'
    (folder / "e.toml").write_text(text)
    found = fedcli("partition", "--plan", "e.toml", cwd=folder)
    assert found.status == 2
    assert found.err == (
        "error: e.toml: 2 faults: --alpha: scheme iid does not use it;"
        " --mu: is not an option of fedavg; it belongs to fedprox, moon\n"
    )
    typed = fedcli("partition", "--plan", "e.toml", "--scheme", "iid", "--alpha", 3, cwd=folder)
    assert typed.err == "error: --alpha: scheme iid does not use it\n"
    done(fedcli("init", "--classes", "a,b", cwd=folder))
    of_run = fedcli("run", "--plan", "e.toml", "--rounds", 1, cwd=folder)
    assert of_run.err.startswith("error: e.toml: --mu: is not an option of fedavg")


def test_run_says_where_the_run_was_made_otherwise(folder: Path) -> None:
    done(fedcli("partition", "--plan", "e.toml", cwd=folder))
    assert "as it was made" not in done(fedcli("run", "--plan", "e.toml", cwd=folder)).err
    text = FILE.replace("seed = 3", "seed = 4").replace(
        "alpha = 0.3", "alpha = 0.5\npartition_seed = 9"
    )
    text = text.replace(
        "limit = 60", "limit = 70\nval_fraction = 0.1\ndata_seed = 3\nskip_bad = false"
    )
    text = text.replace('"linear"', '"linear"\nstem = "cifar"\nlora = 2')
    (folder / "e.toml").write_text(text.replace('"synthetic"', '"npz:x"'))
    assert done(fedcli("run", "--plan", "e.toml", cwd=folder)).err.splitlines()[0] == (
        "e.toml: the run stays as it was made, with --dataset synthetic, not npz:x;"
        " --limit 60, not 70; --val-fraction 0, not 0.1; --stem imagenet, not cifar;"
        " --lora none, not 2; --alpha 0.3, not 0.5; --partition-seed 3, not 9; --seed 3, not 4"
    )


@pytest.mark.parametrize("command", [("plan",), ("plan", "--of", "fedrun")], ids=" ".join)
def test_the_template_runs(folder: Path, command: tuple[str, ...]) -> None:
    small = ("--limit", 60, "--model", "linear", "--epochs", 1, "--clients", 2)
    done(fedcli("partition", *small, cwd=folder))
    file = folder / "t.toml"
    file.write_text(done(fedcli(*command, cwd=folder)).out, encoding="utf-8")
    once = ("--epochs", 1, "--rounds", 1)
    done(fedcli("run", "--plan", "t.toml", *once, cwd=folder))
    again = done(fedcli("run", "--plan", "t.toml", *once, "--json", cwd=folder))
    assert json.loads(again.out)["rounds"] == []
    done(fedcli("sweep", "t.toml", *small, "--rounds", 1, cwd=folder))
    models = [folder / name / "rounds/0001/global.safetensors" for name in ("fedrun", "t/run")]
    assert models[0].read_bytes() == models[1].read_bytes()
