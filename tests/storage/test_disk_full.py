"""A disk that is full, or that may not be written to, or that fails: at every call that writes.

Unless ``FEDCLI_THOROUGH=1``, at some of these calls, of every kind. The command ends with 1 and one
line that names a file; nothing is half-written, and the same command ends well once the cause is
removed.
"""

import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Iterator
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
    state_of,
)
from support.interrupted_steps import STEPS, prepare
from support.thorough import sample

FULL = {"how": "full", "number": errno.ENOSPC}
QUOTA = {"how": "full", "number": errno.EDQUOT}
DENIED = {"how": "denied", "number": errno.EACCES}
BROKEN = {"how": "error", "number": errno.EIO}
# What can come of which call.
FAULTS: dict[str, tuple[dict[str, Any], ...]] = {
    "open": (FULL, DENIED),
    "mkdir": (QUOTA, DENIED),
    "link": (QUOTA, BROKEN),
    "pwrite": (FULL, BROKEN),
    "fsync": (QUOTA, BROKEN),
    "replace": (DENIED, BROKEN),
    "unlink": (DENIED, BROKEN),
    "rmdir": (DENIED,),
}
# Steps with several results: those that were done stay.
SEVERAL = {"init, signed", "train-client", "evaluate", "report", "gc"}
SEVERAL |= {"aggregate --close", "unmask", "aggregate, masked"}  # what was signed stays known
SEVERAL |= {name for name in STEPS if name.startswith(("push", "pull"))}


def faults_of(calls: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """The calls by number, each with what goes wrong."""
    names = [call.split()[0] for call in calls]
    found = [(number, fault) for number, name in enumerate(names) for fault in FAULTS[name]]
    return sample(found, 8, kind=lambda one: (names[one[0]], one[1]["how"]))


@pytest.mark.parametrize("name", [name for name in STEPS if name != "partition"])
def test_a_call_that_fails(behind_faults: Commands, name: str, tmp_path: Path) -> None:
    step, before, folder = STEPS[name], tmp_path / "before", tmp_path / "folder"
    prepare(behind_faults, step, before)
    restore(folder, before)
    calls = behind_faults(folder, *step.words).calls
    old, new, states = contents(before), contents(folder), set()
    for number, fault in faults_of(calls):
        restore(folder, before)
        ended = behind_faults(folder, *step.words, at=number, **fault)
        what = (calls[number], fault, ended)
        if fault["how"] != "denied" and not calls[number].startswith("unlink"):
            assert not leftovers(folder), what
        # a training that was left off may stay: whoever repeats the command goes on from it
        found = {n: data for n, data in contents(folder).items() if "/training/" not in n}
        if ended.status == 0:  # that call was not needed
            assert found == new, what
            continue
        check_message(ended, fault["number"])
        assert all(found[one] in (old.get(one), new.get(one)) for one in found), what
        if name not in SEVERAL and fault["how"] != "denied":
            assert _without_ledgers(found) == _without_ledgers(old), what
        if (state := state_of(folder)) not in states:
            states.add(state)
            check_readable(folder / "fedrun")
            again = behind_faults(folder, *step.words)
            assert again.status == 0, (what, again)
            assert contents(folder) == new, what


def _without_ledgers(files: Contents) -> Contents:
    """What is charged before a step can fail stays charged: repeating it costs nothing more."""
    return {name: data for name, data in files.items() if "/privacy/" not in name}


def check_message(ended: Ended, number: int) -> None:
    """One line says which file it was, and what was wrong."""
    assert ended.status == 1, ended
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended
    assert os.strerror(number) in errors[0], ended
    assert re.search(
        r"fedrun|share|copy|edge\.safetensors|r\.(csv|md)|model\.safetensors", errors[0]
    ), ended
    assert "Traceback" not in ended.err
    assert "mistake in fedcli" not in ended.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting takes root")
    except FileNotFoundError:
        pytest.skip("there is no mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_really_full(behind_faults: Commands, small_disk: Path) -> None:
    step, ballast = STEPS["train-client"], small_disk / "ballast"
    for words in step.before:
        assert behind_faults(small_disk, *words).status == 0
    before = contents(small_disk)
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    ended = behind_faults(small_disk, *step.words)
    check_message(ended, errno.ENOSPC)
    ballast.unlink()
    assert contents(small_disk) == before
    assert not leftovers(small_disk)
    assert behind_faults(small_disk, *step.words).status == 0
