"""Twenty processes on one run at once: each step has one result, the one of steps made in turn."""

import itertools
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.behind_faults import (
    Commands,
    Contents,
    Ended,
    check_readable,
    contents,
    leftovers,
    restore,
)
from support.thorough import times

CLIENTS, TRAINERS, AGGREGATORS, ROUNDS = 4, 16, 4, times(3, 2)
CUT = ("--limit", "32", "--clients", str(CLIENTS), "--model", "linear", "--epochs", "2")
TRAIN = ("train-client", "--threads", "1", "--checkpoint-every", "1", "--id")
# A file system on which renaming takes its time, and names are listed late, or as they were.
SLUGGISH = {"slow": 0.02, "lag": 0.05}


@pytest.fixture(scope="module")
def cut(behind_faults: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was just made."""
    folder = tmp_path_factory.mktemp("cut")
    assert behind_faults(folder, "partition", *CUT, "--algorithm", "scaffold").status == 0
    return folder


@pytest.fixture(scope="module")
def in_turn(
    behind_faults: Commands, cut: Path, tmp_path_factory: pytest.TempPathFactory
) -> Contents:
    """The files after some rounds of one process at a time."""
    folder = tmp_path_factory.mktemp("serial") / "folder"
    restore(folder, cut)
    for _ in range(ROUNDS):
        assert behind_faults(folder, *TRAIN, "all").status == 0
        assert behind_faults(folder, "aggregate").status == 0
    return contents(folder)


def at_once(commands: Iterable[Callable[[], Ended]]) -> list[Ended]:
    """Run all of them side by side."""
    given = list(commands)
    with ThreadPoolExecutor(len(given)) as pool:
        return [future.result() for future in [pool.submit(one) for one in given]]


def statuses(ended: Iterable[Ended]) -> set[int]:
    """The exit statuses, where nothing went wrong that nobody foresaw."""
    found = list(ended)
    for one in found:
        assert "Traceback" not in one.err, one
        assert one.status in (0, 3), one
    return {one.status for one in found}


@pytest.mark.parametrize("layer", [{}, SLUGGISH], ids=["as it is", "sluggish"])
def test_each_round_by_twenty_processes(
    behind_faults: Commands, cut: Path, in_turn: Contents, tmp_path: Path, layer: dict[str, Any]
) -> None:
    folder = tmp_path / "folder"
    restore(folder, cut)
    for number in range(1, ROUNDS + 1):
        of_round = ("--round", str(number))
        training = [(*TRAIN, str(index % CLIENTS), *of_round) for index in range(TRAINERS)]
        aggregating = [("aggregate", "--wait", "100", *of_round)] * AGGREGATORS
        ended = at_once(
            lambda words=words: behind_faults(folder, *words, **layer)
            for words in (*training, *aggregating)
        )
        assert statuses(ended) == {0}
    assert contents(folder) == in_turn
    assert not leftovers(folder)
    check_readable(folder / "fedrun")


@pytest.mark.parametrize("layer", [{}, SLUGGISH], ids=["as it is", "sluggish"])
def test_everybody_goes_on_to_the_open_round_by_themselves(
    behind_faults: Commands, cut: Path, in_turn: Contents, tmp_path: Path, layer: dict[str, Any]
) -> None:
    """Rounds end while clients train for them; nobody waits for anybody, nor knows the round."""
    folder = tmp_path / "folder"
    restore(folder, cut)
    last = folder / "fedrun" / "rounds" / f"{ROUNDS:04d}" / "global.safetensors"

    def again_and_again(words: tuple[str, ...]) -> list[Ended]:
        done = []
        while not last.exists():
            done.append(behind_faults(folder, *words, **layer))
        return done

    commands = [(*TRAIN, str(index % CLIENTS)) for index in range(8)] + [("aggregate",)] * 2
    with ThreadPoolExecutor(len(commands)) as pool:
        ended = list(itertools.chain(*pool.map(again_and_again, commands)))
    assert 0 in statuses(ended)
    found = contents(folder)
    assert {name: found[name] for name in in_turn} == in_turn
    check_readable(folder / "fedrun")


def test_two_aggregations_of_different_updates_at_once_make_one_round(
    behind_faults: Commands, cut: Path, tmp_path: Path
) -> None:
    """One of them makes the round; the others say that it was made from other inputs."""
    folder = tmp_path / "folder"
    kinds = [("--exclude", str(index % 3)) for index in range(6)]
    words = ("aggregate", "--round", "1", "--min-clients", "3")
    for _ in range(times(4, 2)):
        restore(folder, cut)
        assert behind_faults(folder, *TRAIN, "all").status == 0
        ended = at_once(
            lambda kind=kind: behind_faults(folder, *words, *kind, slow=0.02) for kind in kinds
        )
        assert {one.status for one in ended} == {0, 5}, ended
        made = {kind for one, kind in zip(ended, kinds, strict=True) if one.status == 0}
        assert len(made) == 1
        check_readable(folder / "fedrun")
        (kind,) = made
        assert behind_faults(folder, *words, *kind).status == 0


def test_the_same_run_made_by_several_processes_at_once(
    behind_faults: Commands, cut: Path, tmp_path: Path
) -> None:
    words = ("partition", *CUT, "--algorithm", "scaffold")
    for _ in range(times(3, 1)):
        ended = at_once([lambda: behind_faults(tmp_path, *words, slow=0.02)] * 4)
        assert statuses(ended) == {0}
        assert contents(tmp_path) == contents(cut)
        assert not leftovers(tmp_path)
        shutil.rmtree(tmp_path / "fedrun")
