"""``fedcli status --watch``: what it shows, when, and how it ends."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.grey_runs import Cli

from fedcli.cli import execute
from fedcli.cli.options.shared import OutputOptions
from fedcli.cli.options.watching import Watching
from fedcli.cli.render.output import Output
from fedcli.cli.render.watch import watch
from fedcli.cli.streams import EndedByUserError
from fedcli.errors import NotReadyError
from fedcli.run import Run
from fedcli.run.active_run import ActiveRun
from fedcli.run.heartbeat import Training
from fedcli.steps.status import Status, status

ACTIVE = ActiveRun(rounds=5, state="training", seconds_ago=1, host="here", pid=1)


def training(epoch: int, seconds_ago: int) -> Training:
    return Training(
        "0", "training", seconds_ago, epoch, 9, 100.0 + seconds_ago, 1, "cpu", 1, "here", 1, "now"
    )


def looks(*states: Status | Exception) -> Callable[[], Status]:
    """What a watcher sees at one look after the other; then somebody presses Ctrl-C."""
    left: Iterator[Status | Exception] = iter(states)

    def look() -> Status:
        found = next(left, KeyboardInterrupt())
        if isinstance(found, BaseException):
            raise found
        return found

    return look


def seen(*states: Status | Exception, terminal: bool = False) -> str:
    """Return all that is printed until the watch ends by itself."""
    output = Output("status", OutputOptions())
    printed = io.StringIO()
    output.console = Console(
        file=printed, force_terminal=terminal, width=100, markup=False, highlight=False
    )
    watch(output, looks(*states), lambda: None)
    return printed.getvalue()


def test_a_block_is_printed_where_something_has_changed(run: Run) -> None:
    now = replace(status(run), active=ACTIVE)
    older = replace(now, active=replace(ACTIVE, seconds_ago=9, seconds_left=60))
    one = replace(older, training=(training(1, 0),))
    same = replace(older, training=(training(1, 5),))
    two = replace(older, training=(training(2, 0),))
    printed = seen(now, older, one, same, two, replace(now, active=None))
    blocks = printed.split("\n\n")
    assert len(blocks) == 4
    assert ["1/9" in block for block in blocks] == [False, True, False, False]
    assert "2/9" in blocks[2]
    assert ["running" in block for block in blocks] == [True, True, True, False]
    assert "next: fedcli train-client --id all" in blocks[3]


def test_a_run_that_was_killed_ends_the_watch_and_is_shown(run: Run) -> None:
    now = replace(status(run), active=ACTIVE)
    killed = replace(now, active=replace(ACTIVE, state="stopped"))
    assert "interrupted" in seen(now, killed)


def test_a_terminal_is_redrawn_in_place_and_keeps_the_last_view(run: Run) -> None:
    now = replace(status(run), active=ACTIVE)
    printed = seen(now, now, replace(now, active=None), terminal=True)
    erase = "\x1b[1A\x1b[2K"  # the line above
    assert printed.count("process 1 on here") == 2
    before, _, last = printed.rpartition(erase)
    assert before.count(erase) > 10
    assert last.count("next: fedcli train-client --id all") == 1
    assert printed.count("\x1b[?25l") == printed.count("\x1b[?25h") == 1  # the cursor comes back


def test_a_terminal_that_cannot_redraw_is_written_to_like_a_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    now = replace(status(run), active=ACTIVE)
    printed = seen(now, now, replace(now, active=None), terminal=True)
    assert printed.count("open round") == 2
    assert "\x1b" not in printed


def test_a_file_that_goes_between_two_steps_of_a_look_is_looked_for_again(run: Run) -> None:
    now, gone = replace(status(run), active=ACTIVE), NotReadyError("gone")
    assert "next: fedcli" in seen(now, gone, replace(now, active=None))
    with pytest.raises(NotReadyError):
        seen(now, gone, gone)
    with pytest.raises(NotReadyError):
        seen(gone)


@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_ends_a_watch_of_a_run_that_waits_for_others(run: Run, terminal: bool) -> None:
    now = status(run)
    with pytest.raises(EndedByUserError):
        seen(now, now, terminal=terminal)


def test_a_watch_follows_the_run_and_ends_at_ctrl_c_without_a_word(
    run: Run, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = iter([["train-client", "--id", "0,1"], ["status"], ["train-client", "--id", "2"]])
    between: list[int] = []

    def wait(self: Watching) -> None:
        between.append(len(between))
        command = next(commands, None)
        if command is None:
            raise KeyboardInterrupt
        subprocess.run([sys.executable, "-m", "fedcli", *command], check=True, capture_output=True)

    monkeypatch.setattr(Watching, "wait", wait)
    found, out, err = cli("status", "--watch", "--interval", 0.5)
    assert (found, err) == (130, "")
    assert len(between) == 4
    blocks = out.split("\n\n")
    assert [block.splitlines()[-1] for block in blocks] == [
        "next: fedcli train-client --id all",
        "next: fedcli train-client --id 2",
        "next: fedcli aggregate",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--watch", "--json"), "--watch: cannot be combined with --json"),
        (("--watch", "--sampled"), "cannot be combined with --sampled"),
        (("--interval", "3"), "--interval: is the time between two looks of --watch"),
        (("--watch", "--interval", "0"), "--interval: expected a number from 0.1 to 86400"),
        (("--watch", "--interval", "nan"), "--interval: expected a number"),
        (("--watch", "--interval", "inf"), "--interval: expected a number"),
    ],
)
def test_options_that_do_not_go_together(
    run: Run, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["status", *words]) == 2
    printed = capsys.readouterr()
    if "--json" in words:
        assert said in json.loads(printed.out)["error"]["message"]
    else:
        assert said in printed.err


def test_a_watch_ends_when_nobody_reads_it(run: Run) -> None:
    words = [sys.executable, "-m", "fedcli", "status", "--watch", "--interval", "0.1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"20")
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""


def test_the_signal_of_a_scheduler_ends_a_watch_like_ctrl_c(run: Run) -> None:
    words = [sys.executable, "-m", "fedcli", "status", "--watch"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while not process.stdout.readline().startswith(b"next"):
            pass
        process.terminate()
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_the_run_directory_is_read_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(Path("fedrun").rglob("*"))
    monkeypatch.setattr(Watching, "wait", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    assert execute(["status", "--watch"]) == 130
    assert sorted(Path("fedrun").rglob("*")) == before
