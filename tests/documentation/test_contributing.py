"""CONTRIBUTING.md: its files exist, its rooms are the rooms, and its worked example works."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from support.pages import ROOT, run_shell, shell_script

PAGE = ROOT / "CONTRIBUTING.md"
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(language: str) -> list[tuple[str, str]]:
    """The words after the language, and the text, of the blocks in one language."""
    found = _FENCE.findall(PAGE.read_text(encoding="utf-8"))
    return [(words.strip(), text) for name, words, text in found if name == language]


def patched(text: str, hunks: str) -> str:
    """The text with every hunk applied; one without line numbers is found by its lines."""
    for hunk in hunks.split("@@\n")[1:]:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def with_example(tmp_path: Path) -> Path:
    """A copy of the package that the worked example was added to."""
    shutil.copytree(ROOT / "fedcli", tmp_path / "fedcli", ignore=shutil.ignore_patterns("*.pyc"))
    for words, text in fenced("python"):
        path = tmp_path / words.removeprefix("file=")
        assert not path.exists()
        path.write_text(text, encoding="utf-8")
    for _, text in fenced("diff"):
        (name,) = re.findall(r"^\+\+\+ b/(.*)$", text, re.MULTILINE)
        path = tmp_path / name
        path.write_text(patched(path.read_text(encoding="utf-8"), text), encoding="utf-8")
    return tmp_path


def test_the_worked_example_does_what_the_page_says(with_example: Path) -> None:
    # a new process, since the warm one of the tests has imported another fedcli
    program = with_example / "bin" / "fedcli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fedcli "$@"\n')
    program.chmod(0o755)
    place = with_example / "place"
    place.mkdir()
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    run_shell(shell_script(PAGE), place, PYTHONPATH=str(with_example), PATH=path)


def test_the_rooms_are_those_of_the_package() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition("## The house")[2].partition("Four rules")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)/`", row)}
    rooms = {path.parent.name for path in (ROOT / "fedcli").glob("*/__init__.py")}
    assert named == rooms


def test_every_file_that_a_change_goes_to_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition("## Where does it go?")[2].partition("Each change also")[0]
    files = re.findall(r"`([\w/]+\.pyi?|[\w/]+/)`", table)
    assert len(files) > 20
    for name in files:
        assert (ROOT / "fedcli" / name).exists(), name
