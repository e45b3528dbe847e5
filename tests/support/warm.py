"""``fedcli`` forked from a process that has imported all that its commands need.

A new interpreter takes seconds to import torch, a fork hundredths. What a fork cannot show, such as
what a command imports, is tested with processes of their own; and so is everything else with
``FEDCLI_THOROUGH=1``.
"""

import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from fedcli.execution.local import ForkServer, Launch

TESTS = Path(__file__).parent.parent

# Stands for the console script in shell scripts, and for the Python of programs that run
# ``python -m fedcli`` among others; asks the process of the tests for a fork.
_SCRIPT = """\
#!{python} -IS
import json, os, signal, socket, sys
words = sys.argv[1:]
if sys.argv[0].endswith("python"):
    if words[:2] != ["-m", "fedcli"]:
        os.execv(sys.executable, [sys.executable, *words])
    del words[:2]
with socket.socket(socket.AF_UNIX) as broker:
    broker.connect({address!r})
    socket.send_fds(broker, [b"."], [1, 2])
    asked = dict(words=words, folder=os.getcwd(), variables=dict(os.environ))
    broker.sendall(json.dumps(asked).encode())
    broker.shutdown(socket.SHUT_WR)
    status = int(broker.recv(16))
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@cache
def server() -> ForkServer:
    """Return the process that commands are forked from, which starts at the first call."""
    found = ForkServer("support.forked")
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    before = dict(os.environ)
    os.environ.update(PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1", COLUMNS="80")
    try:
        with tempfile.TemporaryFile() as out:
            found.run(Launch(["fedcli", "--version"], out, out))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return found


def stop() -> None:
    """End the process that commands are forked from, where it was started."""
    if server.cache_info().currsize:
        server().stop()
    if folder_of_script.cache_info().currsize:
        shutil.rmtree(folder_of_script())


def run(
    words: Sequence[str],
    folder: Path | str,
    variables: Mapping[str, str],
    out: IO[Any],
    err: IO[Any],
) -> int:
    """Run ``fedcli WORDS`` in a folder with these variables and return its exit status."""
    asked = json.dumps({"folder": str(Path(folder).absolute()), "variables": dict(variables)})
    return server().run(Launch(["support", "forked", asked, *words], out, err))


@cache
def folder_of_script() -> Path:
    """Return a folder, like that of a virtual environment, whose ``bin/fedcli`` is forked too.

    So is ``-m fedcli`` of its ``bin/forking-python``.
    """
    server()
    folder = Path(tempfile.mkdtemp(prefix="fedcli-tests-"))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "broker"))
    listening.listen(64)
    threading.Thread(target=_serve, args=[listening], daemon=True).start()
    (folder / "bin").mkdir()
    for name in ("fedcli", "forking-python"):
        script = folder / "bin" / name
        script.write_text(_SCRIPT.format(python=sys.executable, address=str(folder / "broker")))
        script.chmod(0o755)
    return folder


def _serve(listening: socket.socket) -> None:
    while True:
        channel, _ = listening.accept()
        threading.Thread(target=_answer, args=[channel], daemon=True).start()


def _answer(channel: socket.socket) -> None:
    with channel:
        _, (out, err), _, _ = socket.recv_fds(channel, 1, 2)
        asked = json.loads(b"".join(iter(lambda: channel.recv(65536), b"")))
        with os.fdopen(out, "wb") as to_out, os.fdopen(err, "wb") as to_err:
            status = run(**asked, out=to_out, err=to_err)
        channel.sendall(str(status).encode())
