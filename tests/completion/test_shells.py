"""The Tab key in real shells, and what each of them is answered."""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fedcli

WAIT = 60  # seconds for an answer of a shell on a busy machine
SHOW = "\x14"  # Ctrl-T, bound to print the line as it stands and to clear it

CASES = [
    ("fedcli train-cl", "fedcli train-client "),
    ("fedcli partition --scheme dir", "fedcli partition --scheme dirichlet "),
    ("fedcli partition --dataset fash", "fedcli partition --dataset fashion-mnist "),
    ("fedcli train-client --algorithm fedp", "fedcli train-client --algorithm fedprox "),
    ("fedcli aggregate --strategy trim", "fedcli aggregate --strategy trimmed-mean "),
    ("fedcli aggregate --strategy=bul", "fedcli aggregate --strategy=bulyan "),
    ("fedcli init --model ResNet3", "fedcli init --model resnet34 "),
    ("fedcli run --optimizer s", "fedcli run --optimizer sgd "),
    ("fedcli sweep --algorithm fedavg,moo", "fedcli sweep --algorithm fedavg,moon "),
    ("fedcli init --encode ran", "fedcli init --encode randk="),
    ("fedcli export --format on", "fedcli export --format onnx "),
    ("fedcli status --run hos", "fedcli status --run hospitals "),
    ("fedcli train-client -r hospitals --id st", "fedcli train-client -r hospitals --id st-mary "),
    ("fedcli init --learning", "fedcli init --learning-rate "),
    ("fedcli check --data pho", "fedcli check --data photos/"),
    ("fedcli aggregate --run=hos", "fedcli aggregate --run=hospitals "),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a run, a folder of pictures, and the program on the path."""
    (tmp_path / "hospitals").mkdir()
    text = '{"clients": ["mercy", "st-mary", "$(touch x)", "a b"]}'
    (tmp_path / "hospitals" / "run.json").write_text(text, encoding="utf-8")
    (tmp_path / "photos").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "fedcli"
    command = shlex.join([sys.executable, "-m", "fedcli"])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return tmp_path


def variables(place: Path, **more: str) -> dict[str, str]:
    paths = {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(fedcli.__file__).parent.parent),
        "HOME": str(place),
        "TERM": "dumb",
    }
    return {**os.environ, **paths, **more}


class Typist:
    """Types into an interactive shell on a terminal of its own."""

    def __init__(self, command: list[str], place: Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=place, env=variables(place), stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

    def types(self, text: str) -> None:
        os.write(self.master, text.encode())

    def sees(self, pattern: str) -> str:
        """Return the first group of a pattern, as soon as the shell has printed it."""
        seen, end = "", time.monotonic() + WAIT
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                seen += os.read(self.master, 4096).decode(errors="replace")
                if found := re.search(pattern, seen):
                    return found[1]
        raise AssertionError(f"{pattern!r} not in {seen!r}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


BASH = """
PS1=; bind 'set enable-bracketed-paste off'; bind 'set bell-style none'
eval "$(_FEDCLI_COMPLETE=source_bash fedcli)"
bind -x '"\\C-t": printf "<%s>\\n" "$READLINE_LINE"; READLINE_LINE='
echo rea''dy
"""
ZSH = """
PS1=; unsetopt beep; autoload -U compinit; compinit -D; bindkey -e
eval "$(_FEDCLI_COMPLETE=source_zsh fedcli)"
show() { zle -I; print -r -- "<$BUFFER>"; BUFFER= }; zle -N show; bindkey '^T' show
echo rea''dy
"""


@contextmanager
def typist(shell: str, options: list[str], start: str, place: Path) -> Iterator[Typist]:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell}")
    someone = Typist([found, *options], place)
    try:
        someone.types(start)
        someone.sees("(ready)")
        yield someone
    finally:
        someone.close()


each_shell = pytest.mark.parametrize(
    ("shell", "options", "start"),
    [("bash", ["--norc", "--noprofile", "-i"], BASH), ("zsh", ["-f", "-i"], ZSH)],
    ids=["bash", "zsh"],
)


@each_shell
def test_the_tab_key_completes(shell: str, options: list[str], start: str, place: Path) -> None:
    with typist(shell, options, start, place) as someone:
        for typed, completed in CASES:
            someone.types(f"{typed}\t{SHOW}")
            assert someone.sees(r"<([^>\n]*)>").rstrip(" /") == completed.rstrip(" /")
    assert not (place / "x").exists()


@each_shell
def test_a_name_that_a_stranger_chose_is_a_name_and_no_command(
    shell: str, options: list[str], start: str, place: Path
) -> None:
    name = "evil$(touch x);touch y`touch z` 'q"
    (place / name).mkdir()
    shutil.copy(place / "hospitals" / "run.json", place / name)
    with typist(shell, options, start, place) as someone:
        someone.types(f"fedcli status --run ev\t{SHOW}")
        line = someone.sees(r"<([^\n]*)>")
        assert shlex.split(line) == ["fedcli", "status", "--run", name]
    assert not {"x", "y", "z"} & {path.name for path in place.iterdir()}


def test_fish_completes(place: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("there is no fish")
    lines = [f"complete -C {shlex.quote(typed)}; echo END" for typed, _ in CASES]
    script = "_FEDCLI_COMPLETE=source_fish fedcli | source\n" + "\n".join(lines)
    done = subprocess.run(
        [fish, "--no-config", "-c", script],
        cwd=place,
        env=variables(place),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = done.stdout.split("END\n")[:-1]
    for (typed, completed), answered in zip(CASES, answers, strict=True):
        first = answered.partition("\n")[0].partition("\t")[0]
        assert first == completed.split()[-1], typed
    assert not (place / "x").exists()
