"""Processes that become steps: what they see, how they end, and that none is left behind."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from support.ends import PATIENCE, gone

from fedcli.errors import ClientFailedError, UsageError
from fedcli.execution.engines.local import LocalEngine
from fedcli.execution.launching import Steps
from fedcli.execution.local import ForkServer, Launch, NewProcesses, Starter, starter_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")

# A module as a user may have in the current directory; it tells what its process is like.
TELL = """
import json, os, signal, sys
import threadpoolctl  # as steps do; it sets a variable
import torch
print(json.dumps({
    "name": __name__,
    "argv": sys.argv,
    "path": sys.path,
    "cwd": os.getcwd(),
    "environment": dict(os.environ),
    "threads": torch.get_num_threads(),
    "cuda": torch.cuda.is_initialized(),
    "stdin": sys.stdin.read(),
    "terminals": [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "signals": [str(signal.getsignal(n)) for n in (2, 15, signal.SIGCHLD)],
    "wakeup": signal.set_wakeup_fd(-1),
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "controlled": os.getsid(0) == int(os.environ["SESSION"]),
}))
"""

# A process that says who it and its parent are, and then waits to be ended.
WAIT = """
import os, signal, sys
with open("waiting", "w") as waiting:
    print(os.getpid(), os.getppid(), file=waiting, flush=True)
    signal.pause()
"""


@pytest.fixture(params=[ForkServer, NewProcesses])
def starter(request: pytest.FixtureRequest, here: Path) -> Iterator[Starter]:
    started = request.param()
    yield started
    started.stop()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as with ``python -m``: the modules are found
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SESSION", str(os.getsid(0)))
    (tmp_path / "tell.py").write_text(TELL)
    (tmp_path / "wait_here.py").write_text(WAIT)
    os.mkfifo(tmp_path / "waiting")
    return tmp_path


def run(starter: Starter, *words: str, threads: int | None = None) -> tuple[int, bytes, bytes]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = starter.run(Launch(words, out, err, threads))
        return status, _content(out), _content(err)


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def test_a_forked_process_is_like_a_new_one(here: Path) -> None:
    told: list[list[dict[str, Any]]] = []
    for starter in (ForkServer("fedcli.execution.preload", "linear"), NewProcesses()):
        told.append([])
        for threads in (2, None):  # what one process is told is not told to the next
            status, out, err = run(starter, "tell", "a b", "é", threads=threads)
            assert (status, err) == (0, b"")
            told[-1].append(json.loads(out))
        starter.stop()
    forked, new = told
    for key in new[0]:
        assert [each[key] for each in forked] == [each[key] for each in new], key
    assert forked[0]["argv"][1:] == ["a b", "é"]
    assert [each["environment"]["OMP_NUM_THREADS"] for each in forked] == ["2", "1"]
    assert [each["threads"] for each in forked] == [2, 1]
    assert not forked[0]["controlled"]


def test_how_a_process_ended_is_told(starter: Starter, here: Path) -> None:
    (here / "fails.py").write_text(
        "import os, sys\nprint(1, flush=True)\n"
        "if sys.argv[1] == 'kill':\n    os.kill(os.getpid(), 9)\n"
        "if sys.argv[1] == 'raise':\n    raise ValueError('mine')\n"
        "if sys.argv[1] == '3':\n    os._exit(3)\n"
    )
    assert run(starter, "fails", "0") == (0, b"1\n", b"")
    assert run(starter, "fails", "3") == (3, b"1\n", b"")
    assert run(starter, "fails", "kill")[0] == -signal.SIGKILL
    status, _, err = run(starter, "fails", "raise")
    assert status == 1
    assert err.splitlines()[-1] == b"ValueError: mine"


def test_the_end_of_a_step_in_words(here: Path) -> None:
    class Ends(NewProcesses):
        status = 0

        def run(self, launch: Launch) -> int:
            launch.err.write(b"first\nlast words\n")
            return self.status

    ends = Ends()
    steps = Steps(here, LocalEngine(ends))
    ends.status = -signal.SIGKILL
    with pytest.raises(ClientFailedError, match="ended by SIGKILL: last words") as caught:
        steps.launch("train-client")
    assert "--jobs" in str(caught.value.hint)
    ends.status = 3
    with pytest.raises(ClientFailedError, match="train-client ended with status 3: last words"):
        steps.launch("train-client")


@contextmanager
def opened(fifo: Path) -> Iterator[IO[str]]:
    """Open a pipe that some process writes to, when it has begun to, or not for ever."""
    with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)) as reading:
        assert select.select([reading], [], [], PATIENCE)[0], "nobody writes"
        yield reading


class Waiting(threading.Thread):
    """One process that waits to be ended, in a thread that waits for it."""

    def __init__(self, starter: Starter) -> None:
        super().__init__()
        self._starter = starter
        self.result: object = None
        self.start()
        with opened(Path("waiting")) as waiting:
            self.pid, self.parent = map(int, waiting.readline().split())

    def run(self) -> None:
        try:
            self.result = run(self._starter, "wait_here")[0]
        except ClientFailedError as error:
            self.result = error.message


def test_stopping_ends_what_runs_and_starts_no_more(starter: Starter) -> None:
    waiting = Waiting(starter)
    starter.stop()
    assert gone(waiting.pid)
    waiting.join()
    assert waiting.result == -signal.SIGTERM
    with pytest.raises(ClientFailedError, match="stopped"):
        run(starter, "tell")
    starter.stop()


def test_stopping_before_anything_ran_or_could_run(here: Path) -> None:
    ForkServer().stop()
    (here / "heavy.py").write_text("open('waiting', 'w').write('.')\nimport signal\nsignal.pause()")
    starter = ForkServer("heavy")
    thread = threading.Thread(target=pytest.raises, args=(ClientFailedError, run, starter, "tell"))
    thread.start()
    with opened(Path("waiting")):
        starter.stop()  # while it imports
    thread.join()


def test_ended_processes_are_not_left_as_zombies(here: Path) -> None:
    starter = ForkServer()
    waiting = Waiting(starter)
    for _ in range(3):
        run(starter, "fails")
    children = Path(f"/proc/{waiting.parent}/task/{waiting.parent}/children").read_text()
    assert children.split() == [str(waiting.pid)]
    starter.stop()
    waiting.join()


def test_when_the_server_is_killed_its_processes_end_too(here: Path) -> None:
    starter = ForkServer()
    waiting = Waiting(starter)
    os.kill(waiting.parent, signal.SIGKILL)
    waiting.join()
    assert "the process that forks steps has ended" in str(waiting.result)
    with pytest.raises(ClientFailedError, match="forks steps has ended"):
        run(starter, "tell")
    starter.stop()
    assert gone(waiting.pid)


def test_when_whoever_asked_is_killed_nothing_is_left(here: Path) -> None:
    code = (
        "import tempfile; from fedcli.execution.local import ForkServer, Launch\n"
        "with tempfile.TemporaryFile() as f: ForkServer().run(Launch(['wait_here'], f, f))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    with opened(Path("waiting")) as waiting:
        child, server = map(int, waiting.readline().split())
        process.kill()
        process.wait()
        assert gone(child, server)


def test_a_server_that_cannot_import_says_why(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "heavy.py").write_text("raise ImportError('libcudart.so: not found')")
    starter = ForkServer("heavy")
    with pytest.raises(ClientFailedError, match=r"has ended: ImportError: libcudart\.so"):
        run(starter, "tell")
    starter.stop()


def test_what_a_device_is_is_asked_of_another_process(here: Path) -> None:
    with Steps(here, LocalEngine(starter_for("linear"))) as steps:
        assert steps.probe("cpu") == {"device": "cpu", "free_memory_bytes": None}
        with pytest.raises(UsageError, match="--device"):
            steps.probe("abacus")
        assert steps.probe("cpu")["device"] == "cpu"
