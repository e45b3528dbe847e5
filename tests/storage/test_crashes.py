"""A step that is killed at any of its calls to the file system, and repeated, ends well.

A process is killed before its first call, between each and the next, after the last, and with half
of the bytes of each write written; unless ``FEDCLI_THOROUGH=1``, at some of these points, of every
kind of call. After each the run can be read and is sound; then the command is repeated, and every
file is what an undisturbed command made. ``pytest -s`` prints how many points there are.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.behind_faults import (
    Commands,
    Contents,
    check_readable,
    contents,
    leftovers,
    restore,
    state_of,
)
from support.interrupted_steps import PARTITION, STEPS, TRAIN, Step, prepare
from support.runs import deliver, tensors
from support.sample_runs import telemetry
from support.thorough import sample

from fedcli.errors import UpdateError
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.storage.atomic import write_json


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_a_step_killed_at_any_call_and_repeated(
    behind_faults: Commands,
    step: Step,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    before, folder = tmp_path / "before", tmp_path / "folder"
    prepare(behind_faults, step, before)
    restore(folder, before)
    ended = behind_faults(folder, *step.words)
    assert ended.status == 0, ended.err
    calls, whole = ended.calls, contents(folder)
    assert len(calls) >= step.calls
    assert not leftovers(folder)
    check_readable(folder / "fedrun")
    states = set()
    points = [(number, "before") for number in range(len(calls))]
    points += [(number, "half") for number, call in enumerate(calls) if call.startswith("pwrite")]
    points.append((len(calls) - 1, "after"))
    points = sample(points, 8, kind=lambda point: (point[1], calls[point[0]].split()[0]))
    for number, how in points:
        restore(folder, before)
        ended = behind_faults(folder, *step.words, at=number, how=how)
        assert ended.status == -signal.SIGKILL, (number, calls[number], ended)
        if (state := state_of(folder)) not in states:
            states.add(state)
            when = f"killed {how} {number}: {calls[number]}"
            check_repeated(behind_faults, step, folder, whole, when)
    print(f"{' '.join(step.words)}: {len(points)} kill points, {len(states)} states")
    record_property("kill_points", len(points))


def check_repeated(
    behind_faults: Commands, step: Step, folder: Path, whole: Contents, when: str
) -> None:
    """What is there can be read, and the same command goes on to the same end."""
    check_readable(folder / "fedrun")
    ended = behind_faults(folder, *step.words)
    assert ended.status == 0, (when, ended)
    found = contents(folder)
    assert {n for n in whole.keys() | found.keys() if whole.get(n) != found.get(n)} == set(), when


ROUNDS = ("run", "--rounds", "2", "--jobs", "1", "--threads", "1")
ENDS = {  # how a run ends, and with which statuses; 0 where it was at its end
    "SIGINT": ({"how": "signal", "number": signal.SIGINT}, {130, 0}),
    "SIGTERM": ({"how": "signal", "number": signal.SIGTERM}, {130, 0}),
    "SIGKILL": ({"how": "signal", "number": signal.SIGKILL}, {-9}),
    "SIGKILL to all": ({"how": "all"}, {-9}),
    "SIGKILL to a step": ({"how": "before"}, {1}),
}
KILLED_ITSELF = {-9}


def calls_of_the_run(calls: list[str]) -> set[int]:
    """The calls that ``run`` makes itself, for the file that says that it is active."""
    published = calls.index("replace fedrun/running.json")
    removed = calls.index("unlink fedrun/running.json")
    return {*range(published + 2), *range(removed, len(calls))}  # 2: and its directory is synced


@pytest.fixture(scope="module")
def cut(behind_faults: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was just made."""
    folder = tmp_path_factory.mktemp("cut")
    assert behind_faults(folder, *PARTITION).status == 0
    return folder


@pytest.fixture(scope="module")
def two_rounds(
    behind_faults: Commands, cut: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Contents]:
    """The calls of two rounds, and the files after them."""
    folder = tmp_path_factory.mktemp("whole") / "folder"
    restore(folder, cut)
    ended = behind_faults(folder, *ROUNDS)
    assert ended.status == 0, ended.err
    return ended.calls, contents(folder)


@pytest.mark.parametrize(("fault", "statuses"), ENDS.values(), ids=ENDS.keys())
def test_a_run_interrupted_at_any_moment_and_repeated(
    behind_faults: Commands,
    cut: Path,
    two_rounds: tuple[list[str], Contents],
    tmp_path: Path,
    fault: dict[str, Any],
    statuses: set[int],
) -> None:
    calls, whole = two_rounds
    folder, own = tmp_path / "folder", calls_of_the_run(calls)
    for at in sample(range(len(calls)), 4, seed=f"{fault}"):
        restore(folder, cut)
        ended = behind_faults(folder, *ROUNDS, at=at, **fault)
        ends = KILLED_ITSELF if fault["how"] == "before" and at in own else statuses
        assert ended.status in ends, (at, calls[at], ended)
        assert "Traceback" not in ended.err, (at, calls[at], ended.err)
        check_readable(folder / "fedrun")
        ended = behind_faults(folder, *ROUNDS)
        assert ended.status == 0, (at, calls[at], ended)
        assert contents(folder) == whole, (at, calls[at])


# What a disk may hold after the power was lost, of a file whose name was written and whose bytes
# were not: nothing, a part, or zeros in place of what is missing.
LOSSES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "short": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "zeros at the end": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_a_file_whose_bytes_were_lost_is_never_averaged(
    tiny_run: Run, loss: Callable[[bytes], bytes]
) -> None:
    for client in "012":
        sha256 = deliver(tiny_run, client, tensors(int(client)))
        write_json(tiny_run.round(1).telemetry(client), telemetry(client, 1, sha256))
    path = tiny_run.round(1).update("1")
    path.write_bytes(loss(path.read_bytes()))
    with pytest.raises(UpdateError, match=r"updates/1\.safetensors"):
        aggregate(tiny_run)
    assert not tiny_run.round(1).global_model.exists()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_a_global_model_whose_bytes_were_lost_is_not_trained_from(
    behind_faults: Commands, cut: Path, tmp_path: Path, loss: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "folder"
    restore(folder, cut)
    for words in (TRAIN, ("aggregate",)):
        assert behind_faults(folder, *words).status == 0
    path = folder / "fedrun" / "rounds" / "0001" / "global.safetensors"
    whole = path.read_bytes()
    assert behind_faults(folder, *TRAIN).status == 0
    path.write_bytes(loss(whole))
    for words in ((*TRAIN, "--force"), ("aggregate",), ("evaluate",)):
        ended = behind_faults(folder, *words)
        assert ended.status == 4, (words, ended)
        assert "rounds/0001/global.safetensors" in ended.err
    assert behind_faults(folder, "aggregate", "--round", "1").status == 5
    # a later round has begun from it, and this makes the very same again
    ended = behind_faults(folder, "aggregate", "--round", "1", "--force")
    assert (ended.status, path.read_bytes() == whole) == (0, True), ended
