"""The pages of the documentation as the tests see them: fenced blocks, and a way to run them."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support import warm
from support.thorough import THOROUGH

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its first line of text, ``status`` what it exits with."""

    language: str
    text: str
    line: int
    status: int


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of a page in one language. ```` ```sh exit=2 ```` is to end with status 2."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        name, *options = match["info"].split() or [""]
        status = dict(option.split("=") for option in options).get("exit", "0")
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(name, match["text"], line, int(status)))
    return [block for block in found if block.language == language]


def all_blocks(page: Path) -> str:
    """The text of all blocks of a page, lines that go on with a backslash joined."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(match["text"] for match in _FENCE.finditer(text)).replace("\\\n", " ")


def without_blocks(page: Path) -> str:
    """The text of a page outside its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def name_of(page: Path) -> str:
    """The path of a page, as tests are named after it."""
    return page.relative_to(ROOT).as_posix()


def shell_script(page: Path) -> str:
    """One script of all shell blocks of a page, in order, that checks the status of each."""
    parts = []
    for block in blocks(page, "sh"):
        where = shlex.quote(f"{name_of(page)}:{block.line}")
        parts.append(f"echo {where} >&2")
        if block.status == 0:
            parts.append(block.text)
        else:
            wrong = f"{{ echo {where}: status $status, expected {block.status} >&2; exit 1; }}"
            parts += ["set +e", f"(set -e\n{block.text})", "status=$?", "set -e"]
            parts.append(f"[ $status -eq {block.status} ] || {wrong}")
    return "\n".join(parts) + "\n"


def venv() -> Path:
    """Where ``bin/fedcli`` is: forked, or in a thorough run that of the virtual environment."""
    return Path(sys.prefix) if THOROUGH else warm.folder_of_script()


# Runs a program whose own ``sys.executable`` is another one.
_WITH_PYTHON = """
import pathlib, runpy, sys
sys.executable, *sys.argv = sys.argv[1:]
sys.path[0] = str(pathlib.Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def python_program(script: Path, *words: str) -> list[str]:
    """The command of a Python program; fedcli is forked for it, as ``venv`` says."""
    if THOROUGH:
        return [sys.executable, str(script), *words]
    python = warm.folder_of_script() / "bin" / "forking-python"
    return [sys.executable, "-c", _WITH_PYTHON, str(python), str(script), *words]


def environment(**more: str) -> dict[str, str]:
    """The environment of a person who has just installed fedcli and set nothing."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FEDCLI_")}
    path = os.pathsep.join([str(venv() / "bin"), str(Path(sys.executable).parent), own["PATH"]])
    return {**own, "PATH": path, "COLUMNS": "80", **more}


def run_shell(script: str, directory: Path, **variables: str) -> str:
    """Run ``sh -eu`` in a directory and return what it printed; it has to exit with 0."""
    process = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=directory,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-4000:]
    return process.stdout
