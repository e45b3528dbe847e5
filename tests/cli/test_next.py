"""What commands say to type next can be typed, from an empty directory to the end of a run."""

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from support.grey_runs import Cli
from support.runs import Finished, fedcli
from support.signing import fixed_key

from fedcli.run import Run

CUT = ("partition", "--limit", "60", "--model", "linear", "--epochs", "1", "--batch-size", "8")
OWN_NET = """
from torch import nn


def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))
"""
OWN_RULE = """
def mean(values, shares):
    return shares @ values
"""


def typed(line: str, folder: Path, **placeholders: str) -> Finished:
    """Type a command that was printed, with what it leaves to the user, as a shell runs it."""
    inner = re.search(r'"\$\((fedcli [^)]*)\)"', line)
    if inner is not None:
        line = line.replace(inner[0], shlex.quote(typed(inner[1], folder).out.strip()))
    name, *words = [placeholders.get(word, word) for word in shlex.split(line)]
    assert name == "fedcli"
    assert not {"PATH", "FILE", "NAME"} & set(words), line
    done = fedcli(*words, cwd=folder)
    assert done.status == 0, (line, done.err)
    return done


def said(out: str, start: str) -> list[str]:
    """What follows ``start`` in each line that begins so."""
    return [line.removeprefix(start) for line in out.splitlines() if line.startswith(start)]


def followed(out: str, folder: Path) -> Iterator[str]:
    """Type what each command says to type next, until one says nothing."""
    while lines := said(out, "next: "):
        (line,) = lines
        yield line
        out = typed(line, folder).out


@pytest.mark.parametrize(
    "options",
    [
        "--clients 3",
        "--clients 10",
        "--clients 12 --clients-per-round 7",
        "--clients 4 --fraction 0.5",
        "--clients 3 --strategy fedbuff --buffer 2",
        "--clients 2 --algorithm scaffold",
        "--clients 2 --model own_net:net",
        "--clients 2 --reduce own_rule:mean",
        "--clients 2 --test-split client",
        "--clients 2 --run 'my study'",
    ],
)
def test_each_step_of_a_simulation_leads_to_the_next(options: str, tmp_path: Path) -> None:
    (tmp_path / "own_net.py").write_text(OWN_NET)
    (tmp_path / "own_rule.py").write_text(OWN_RULE)
    made = fedcli(*CUT, *shlex.split(options), cwd=tmp_path)
    assert made.status == 0, made.err
    lines = list(followed(made.out, tmp_path))
    commands = [line.split()[1] for line in lines]
    assert commands == ["train-client", "aggregate", "evaluate", "report"]
    # the second round, which the scores of the first lead to
    scored = typed(lines[2], tmp_path)
    (train,) = said(scored.out, "for round 2: ")
    assert "train-client" in train
    ended = list(followed(typed(train, tmp_path).out, tmp_path))
    assert [line.split()[1] for line in ended] == ["aggregate", "evaluate", "report"]


def test_one_command_runs_a_new_simulation_to_its_end(tmp_path: Path) -> None:
    made = fedcli(*CUT, "--clients", "10", cwd=tmp_path)
    (line,) = said(made.out, "for several rounds: ")
    assert line == "fedcli run --rounds 10"
    ran = typed(line, tmp_path)
    assert list(followed(ran.out, tmp_path)) == ["fedcli report"]
    (again,) = said(typed(line, tmp_path).out, "next: ")
    assert again == "fedcli report"


def test_missing_clients_are_named_and_those_who_delivered_are_not_trained_again(
    tmp_path: Path,
) -> None:
    made = fedcli(*CUT, "--clients", "10", cwd=tmp_path)
    assert made.status == 0
    # with another learning rate, so that training it again would be a conflict
    done = fedcli("train-client", "--id", "3", "--lr", "0.1", cwd=tmp_path)
    (line,) = said(done.out, "next: ")
    assert line == "fedcli train-client --id 0-2,4-9"
    assert said(typed(line, tmp_path).out, "next: ") == ["fedcli aggregate"]


# --- a federation whose places have only the files that commands name ----------------------------

HOSPITALS = ("charite", "mercy")


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """A directory of each hospital, with its pictures and its key, and of the coordinator."""
    found = {name: tmp_path / name for name in (*HOSPITALS, "coordinator")}
    for seed, (name, folder) in enumerate(found.items()):
        folder.mkdir()
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
        np.savez(folder / "scans.npz", x=x, y=np.arange(16) % 2)
        fixed_key(folder, name)
    return found


def bring(out: str, start: str, source: Path, *targets: Path) -> list[str]:
    """Copy the files that a command says to send, and nothing else."""
    lines = out.splitlines()
    files = shlex.split(lines[lines.index(f"{start}, unless in this directory:") + 1])
    for target in targets:
        for file in files:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, target / file)
    return files


def command_at(place: str, out: str) -> str:
    """The command for a place among those that are printed."""
    here = said(out, f"at {place}: ")
    return here[0] if here else said(out, "next: ")[0]


FEDERATIONS: Mapping[str, tuple[str, ...]] = {
    "plain": ("--clients", "charite,mercy"),
    "anybody": (),
    "signed": (
        "--member", "charite={charite}", "--member", "mercy={mercy}", "--key", "coordinator.key"
    ),
    "scaffold": ("--clients", "charite,mercy", "--algorithm", "scaffold"),
    "feddyn": ("--clients", "charite,mercy", "--algorithm", "feddyn"),
    "ditto": ("--clients", "charite,mercy", "--algorithm", "ditto"),
    "fedadam": ("--clients", "charite,mercy", "--strategy", "fedadam"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FEDERATIONS)
def test_two_hospitals_need_only_the_files_that_are_named(
    kind: str, places: dict[str, Path]
) -> None:
    coordinator, hospitals = places["coordinator"], [places[name] for name in HOSPITALS]
    public = {name: fixed_key(folder, name).public for name, folder in places.items()}
    words = [word.format(**public) for word in FEDERATIONS[kind]]
    made = fedcli(
        *("init", "--run", "study", "--classes", "a,b", "--image-size", "8", "--model", "linear"),
        *("--epochs", "1", *words),
        cwd=coordinator,
    )
    assert made.status == 0, made.err
    files = bring(made.out, "send to the clients", coordinator, *hospitals)
    assert files[0] == "study/run.json"
    commands = {name: command_at(name, made.out) for name in HOSPITALS}
    for number in (1, 2):
        for name in HOSPITALS:
            filled = {"PATH": "scans.npz", "FILE": f"{name}.key", "NAME": name}
            trained = typed(commands[name], places[name], **filled)
            bring(trained.out, "send to the coordinator", places[name], coordinator)
            ((awaited, commands[name]),) = [
                line.split(" arrived: ") for line in said(trained.out, "next, when ")
            ]
            assert f"study/rounds/{number:04d}/global.safetensors" in awaited
            assert "--data scans.npz" in commands[name]
        line = said(typed("fedcli status --run study", coordinator).out, "next: ")[0]
        assert line.startswith("fedcli aggregate --run study") or "--key FILE" in line
        done = typed(line, coordinator, FILE="coordinator.key")
        bring(done.out, "send to the clients", coordinator, *hospitals)
        (score,) = said(done.out, "next: ")
        scored = typed(score, coordinator, PATH="scans.npz")
        assert said(scored.out, "next: ") == ["fedcli report --run study"]
    assert typed("fedcli verify --run study", coordinator).out.endswith("study: sound\n")
    for folder in hospitals:
        for line in ("fedcli verify --run study", "fedcli verify --run study --replay"):
            assert typed(line, folder).out.endswith("study: sound as far as it goes\n")


def test_json_lists_the_files_to_send(places: dict[str, Path]) -> None:
    coordinator, mercy = places["coordinator"], places["mercy"]
    words = ("init", "--classes", "a,b", "--image-size", "8", "--model", "linear", "--epochs", "1")
    made = fedcli(*words, "--clients", "mercy", "--json", cwd=coordinator).json
    assert made["send"] == ["fedrun/run.json", "fedrun/rounds/0000/global.safetensors"]
    shutil.copytree(coordinator / "fedrun", mercy / "fedrun")
    train = ("train-client", "--id", "mercy", "--data", "scans.npz", "--json")
    for _ in range(2):  # trained now, or before
        trained = fedcli(*train, cwd=mercy).json
        assert trained["send"] == ["fedrun/rounds/0001/updates/mercy.safetensors"]
        assert trained["may_send"] == ["fedrun/rounds/0001/updates/mercy.json"]
        assert trained["awaits"] == ["fedrun/rounds/0001/global.safetensors"]
    shutil.copytree(mercy / "fedrun" / "rounds" / "0001", coordinator / "fedrun/rounds/0001")
    for words in (("aggregate",), ("aggregate", "--round", "1")):
        done = fedcli(*words, "--json", cwd=coordinator).json
        assert done["send"] == ["fedrun/rounds/0001/global.safetensors"]


def test_a_run_with_a_remote_leads_from_pull_to_push(places: dict[str, Path]) -> None:
    coordinator, mercy = places["coordinator"], places["mercy"]
    share = coordinator.parent / "share"
    words = ("init", "--classes", "a,b", "--image-size", "8", "--model", "linear", "--epochs", "1")
    made = fedcli(*words, "--clients", "mercy", "--remote", str(share), cwd=coordinator)
    assert said(made.out, "send to the clients: ") == ["fedcli push"]
    assert typed("fedcli push", coordinator).status == 0
    pulled = fedcli("pull", str(share), "--id", "mercy", cwd=mercy)
    (line,) = said(pulled.out, "next: ")
    trained = typed(line, mercy, PATH="scans.npz")
    assert said(trained.out, "next: ") == ["fedcli push"]
    assert said(typed("fedcli status", mercy).out, "next: ") == ["fedcli push"]
    assert not any("unless in this directory" in done.out for done in (made, trained))
    assert typed("fedcli push", mercy).status == 0
    assert said(typed("fedcli status", coordinator).out, "next: ") == ["fedcli pull --wait 3600"]
    assert said(typed("fedcli pull", coordinator).out, "next: ") == ["fedcli aggregate"]
    done = typed("fedcli aggregate", coordinator)
    assert said(done.out, "send to the clients: ") == ["fedcli push"]


def test_nothing_is_to_be_sent_in_a_simulation(tmp_path: Path) -> None:
    assert fedcli(*CUT, "--clients", "2", cwd=tmp_path).status == 0
    trained = fedcli("train-client", "--id", "all", "--json", cwd=tmp_path).json
    assert (trained["send"], trained["may_send"], trained["awaits"]) == ([], [], [])
    assert fedcli("aggregate", "--json", cwd=tmp_path).json["send"] == []


def test_a_round_that_is_too_early_leads_to_the_open_one(run: Run, cli: Cli) -> None:
    assert cli("train-client", "--id", "0")[0] == 0
    found, _, err = cli("train-client", "--id", "0,2", "--round", 5)
    assert found == 3
    assert "round 4 has no global model; the open round is 1" in err
    assert "hint: train for round 1 first: fedcli train-client --id 2\n" in err
    _, _, err = cli("train-client", "--id", "0", "--round", 2)
    assert "hint: end round 1 first: fedcli aggregate\n" in err
    found, _, err = cli("aggregate", "--round", 3)
    assert found == 3
    assert "hint: end round 1 first: fedcli aggregate\n" in err
    run.round(0).global_model.unlink()
    found, _, err = cli("train-client", "--id", "0", "--round", 2)
    assert found == 3
    assert "the starting model is missing" in err
