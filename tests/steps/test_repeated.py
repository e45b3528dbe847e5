"""Every step again: with the same inputs nothing is touched, with others there is a conflict."""

import json
from pathlib import Path

import pytest
from support.behind_faults import Commands, check_readable
from support.interrupted_steps import ALL, CUT, PARTITION, STEPS, TRAIN, Step, prepare
from support.small_runs import small_run

from fedcli.formats.manifest import Manifest
from fedcli.plan.execution import Execution
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.train_client import train_client

AGAIN = {
    **{name: step for name, step in STEPS.items() if "--force" not in name},
    "report --html": Step(("report", "--html", "r.html"), (PARTITION, TRAIN, ("aggregate",))),
    "run": Step(("run", "--rounds", "2", "--threads", "1"), (PARTITION,)),
}
SAME_ROUND = STEPS["aggregate"]
STEPS_AGAIN = {
    **STEPS,
    "aggregate, no round": Step(("aggregate",), SAME_ROUND.before),
    "run": AGAIN["run"],
}
# Other options of each step, and what is said of them: the option, then, and now.
OTHERS = {
    "partition": {
        "--seed 1": "its --seed is 0, not 1",
        "--lr 0.5": "its --lr is 0.01, not 0.5",
        "--model cnn": "its --model is 'linear', not 'cnn'",
        "--strategy median": "its --strategy is 'fedavg', not 'median'",
        "--limit 20": "its origin.data.limit is 24, not 20",
    },
    "init": {
        "--seed 1": "its --seed is 0, not 1",
        "--epochs 7": "its --epochs is",
        "--classes a,c": "its dataset.classes is ['a', 'b'], not ['a', 'c']",
        "--clients 0,1,2": "its clients is ['0', '1'], not ['0', '1', '2']",
    },
    "train-client": {
        "--lr 0.5": "--lr 0.01, not 0.5",
        "--epochs 2": "--epochs 1, not 2",
        "--seed 3": "--seed 0, not 3",
        "--threads 2": "--threads 1, not 2",
        "--algorithm fedprox --mu 0.5": "--algorithm fedavg, not fedprox",
        "--momentum 0": "--momentum 0.9, not 0",
    },
    "train-client, state": {"--lr 0.5": "--lr 0.01, not 0.5"},
    "aggregate": {
        "--strategy median": "--reduce mean, not median",
        "--server-lr 0.5": "--server-lr 1, not 0.5",
        "--weighting uniform": "--weighting examples, not uniform",
        "--max-norm 5": "--max-norm none, not 5",
        "--exclude 1 --min-clients 1": "from clients 0, 1, not 0",
    },
    "aggregate, no round": {
        "--strategy median": "--reduce mean, not median",
        "--server-lr 0.5": "--server-lr 1, not 0.5",
        "--weighting uniform": "--weighting examples, not uniform",
        "--max-norm 5": "--max-norm none, not 5",
        "--exclude 1 --min-clients 1": "--exclude none, not 1",
        "--clients-per-round 1": "--clients-per-round none, not 1",
        "0": "from clients 0, 1, not 0",
    },
    "aggregate, state": {"--exclude 1 --min-clients 1": "from clients 0, 1, not 0"},
    "aggregate --partial": {"--weighting uniform": "with another weighting"},
    "run": {
        "--lr 0.5": "client 0 was trained with --lr 0.01, not 0.5",
        "--epochs 2": "--epochs 1, not 2",
        "--steps 3": "--steps 2, not 3",
        "--seed 3": "--seed 0, not 3",
        "--threads 2": "--threads 1, not 2",
        "--algorithm fedprox --mu 0.5": "--algorithm fedavg, not fedprox",
        "--augment flip": "--augment none, not flip",
        "--local-layers fc": "--local-layers none, not fc",
        "--lr-schedule cosine --lr-rounds 4": "--lr 0.01, not",
        "--strategy median": "was aggregated with --reduce mean, not median",
        "--server-optimizer adam": "--server-optimizer sgd, not adam",
        "--max-norm 5": "--max-norm none, not 5",
        "--exclude 1": "--exclude none, not 1",
        "--clients-per-round 1": "--clients-per-round 2, not 1",
    },
}


FETCHING = {"pull": "copy", "pull, coordinator": "fedrun"}


def touched(folder: Path) -> dict[str, tuple[int, ...]]:
    """What changes with everything that is done to a file or a directory."""
    status = {str(path): path.stat() for path in folder.rglob("*")}
    return {name: (s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for name, s in status.items()}


def done_once(
    behind_faults: Commands, step: Step, tmp_path: Path
) -> tuple[Path, dict[str, tuple[int, ...]]]:
    """The folder after a step, and what was touched in it."""
    folder = tmp_path / "folder"
    prepare(behind_faults, step, folder)
    assert behind_faults(folder, *step.words).status == 0
    return folder, touched(folder)


@pytest.mark.parametrize("name", AGAIN)
def test_the_same_again_says_so_and_touches_nothing(
    behind_faults: Commands, name: str, tmp_path: Path
) -> None:
    folder, before = done_once(behind_faults, AGAIN[name], tmp_path)
    ended = behind_faults(folder, *AGAIN[name].words)
    assert ended.status == 0, ended
    assert "already" in ended.out + ended.err
    after = touched(folder)
    if name in FETCHING:  # into a folder beside the files, which is gone at the end
        assert before.keys() == after.keys()
        before[str(folder / FETCHING[name])] = after[str(folder / FETCHING[name])]
    assert after == before, ended.calls


@pytest.mark.parametrize("name", OTHERS)
def test_with_other_options_it_is_a_conflict_that_names_them(
    behind_faults: Commands, name: str, tmp_path: Path
) -> None:
    step = STEPS_AGAIN[name]
    folder, before = done_once(behind_faults, step, tmp_path)
    for words, said in OTHERS[name].items():
        ended = behind_faults(folder, *without(step.words, words), *words.split())
        assert ended.status == 5, (words, ended)
        assert said in ended.err, (words, ended.err)
        assert "--force" in ended.err or "continue with the new ones: fedcli run" in ended.err
        assert touched(folder) == before, words


def without(line: tuple[str, ...], words: str) -> list[str]:
    """A line without the options, and their values, that are among these words."""
    options = {word for word in words.split() if word.startswith("--")}
    return [
        word
        for before, word in zip(("", *line), line, strict=False)
        if word not in options and before not in options
    ]


def test_what_a_rule_says_of_options_holds_for_run_only_where_nothing_is_left_to_do(
    behind_faults: Commands, tmp_path: Path
) -> None:
    """Options are of the call: a run may go on with others, and then repeats with these."""
    folder, _ = done_once(behind_faults, AGAIN["run"], tmp_path)
    for words in ("--rounds 3 --lr 0.5", "--rounds 3 --lr 0.5", "--rounds 2"):
        assert behind_faults(folder, "run", *words.split(), "--threads", "1").status == 0
    ended = behind_faults(folder, "run", "--rounds", "3", "--threads", "1")
    assert ended.status == 5
    assert "was trained with --lr 0.5, not 0.01" in ended.err
    assert "fedcli run --rounds 4" in ended.err
    assert behind_faults(folder, "gc", "--keep-last", "1").status == 0
    assert behind_faults(folder, "run", "--rounds", "2", "--lr", "0.7").status == 0


def late(behind_faults: Commands, folder: Path, *plan: str) -> None:
    """Make a run of which round 1 is complete without client 1, who then delivers for it."""
    folder.mkdir()
    for words in (
        ("partition", *CUT, *plan),
        ("train-client", "--id", "0", "--threads", "1"),
        ("aggregate", "--round", "1", *(() if plan else ("--min-clients", "1"))),
    ):
        ended = behind_faults(folder, *words)
        assert ended.status == 0, ended


def test_a_late_update_is_kept_and_said_to_be_late(behind_faults: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    late(behind_faults, folder)
    round_1 = folder / "fedrun" / "rounds" / "0001"
    manifest = (round_1 / "aggregate.json").read_bytes()
    words = ("train-client", "--id", "1", "--round", "1", "--threads", "1")
    for _ in range(2):  # the second time it was trained before, and is still late
        ended = behind_faults(folder, *words)
        assert ended.status == 0
        assert " ".join(ended.out.split()).endswith(
            "late: round 1 was complete when this arrived: the update of client 1 is kept, and"
            " counts in no round; to take part in round 2: fedcli train-client --id 1"
        )
        (client,) = json.loads(behind_faults(folder, *words, "--json").out)["clients"]
        assert client["late"] is True
    assert (round_1 / "updates" / "1.safetensors").exists()
    assert (round_1 / "aggregate.json").read_bytes() == manifest
    check_readable(folder / "fedrun")
    assert behind_faults(folder, *TRAIN).status == 0
    ended = behind_faults(folder, "aggregate", "--json")
    assert [(one["client"], one["round"]) for one in json.loads(ended.out)["late"]] == [("1", 1)]


def test_a_late_update_of_an_asynchronous_run_counts_in_the_open_round(
    behind_faults: Commands, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    late(behind_faults, folder, "--strategy", "fedbuff", "--buffer", "1")
    words = ("train-client", "--id", "1", "--round", "1", "--threads", "1")
    said = " ".join(behind_faults(folder, *words).out.split())
    assert said.endswith("is kept, and counts in round 2, for which it is 1 round late")
    assert behind_faults(folder, "aggregate").status == 0
    # what a model was made from has not been late for all
    assert "late:" not in behind_faults(folder, *words).out


def test_who_delivers_in_time_is_not_late(behind_faults: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    prepare(behind_faults, STEPS["train-client"], folder)
    for number in (1, 1, 2):
        ended = behind_faults(folder, "train-client", *ALL, "--round", str(number), "--json")
        assert not any(one["late"] for one in json.loads(ended.out)["clients"])
        behind_faults(folder, "aggregate", "--round", str(number))


class Completing(Silence):
    """Progress in whose middle the round is completed, by somebody else."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def say(self, line: str) -> None:
        if "epoch 1/" in line:
            aggregate(self.run, min_clients=1)


def test_a_client_that_trains_while_its_round_is_completed_is_late(tmp_path: Path) -> None:
    """It trains for the round that was open when it began."""
    run, once = small_run(tmp_path / "fedrun", clients=("0", "1")), Execution(threads=1)
    train_client(run, ["0"], execution=once)
    result = train_client(run, ["1"], execution=once, progress=Completing(run))
    assert (result.round, [client.late for client in result.clients]) == (1, [True])
    assert run.round(1).delivered() == ["0", "1"]
    manifest = Manifest.try_read(run.round(1).manifest)
    assert manifest is not None
    assert [entry.client for entry in manifest.accepted] == ["0"]
