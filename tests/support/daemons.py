"""Real servers on loopback for remotes: an S3 store and an SSH server, started and stopped here."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

_PATIENCE = 60.0  # seconds until a server answers
BUCKET = "study"


@dataclass(frozen=True)
class Server:
    """A running server: the URL of an empty place in it, and what a client's environment needs.

    ``disk`` is the folder behind the URL, if the server keeps files as they are.
    """

    url: str
    environment: dict[str, str] = field(default_factory=dict)
    disk: Path | None = None


def free_port() -> int:
    """Return a port of loopback on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(words: Sequence[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the block ends; it is entered as soon as the port answers."""
    with _process(words, log) as process:
        deadline = time.monotonic() + _PATIENCE
        while not _answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield


@contextmanager
def _process(
    words: Sequence[str], log: Path, folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends."""
    with log.open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _with_moto() -> str | None:
    """Return a Python that has moto: that of the tests' servers, or this one."""
    own = Path(sys.prefix) / "servers" / "bin" / "python"
    if own.exists():
        return str(own)
    return sys.executable if find_spec("moto") and find_spec("flask") else None


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    """Start moto's S3 server with an empty bucket; skip where it is not installed."""
    python = _with_moto()
    if python is None or find_spec("s3fs") is None:
        pytest.skip("not installed: moto[server,s3], or s3fs")
    port = free_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    code = "from moto.server import main; main()"
    words = [python, "-c", code, "-H", "127.0.0.1", "-p", str(port)]
    with _running(words, port, folder / "moto.log"):
        bucket = Request(f"{environment['AWS_ENDPOINT_URL']}/{BUCKET}", method="PUT")
        urlopen(bucket, timeout=_PATIENCE).close()
        yield Server(f"s3://{BUCKET}", environment)


@contextmanager
def dask_cluster(folder: Path, workers: int = 2, *options: str) -> Iterator[Path]:
    """Start a Dask scheduler and workers on loopback; yield the scheduler's file.

    Beside it ``scheduler.pid`` names the scheduler's process.
    """
    if find_spec("distributed") is None:
        pytest.skip("not installed: distributed")
    file = folder / "scheduler.json"
    dask, quiet = [sys.executable, "-m", "dask"], ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = [*dask, "scheduler", "--port", "0", "--scheduler-file", str(file), *quiet]
    more = ["--nworkers", str(workers), "--nthreads", "1", "--memory-limit", "0", *options]
    worker = [*dask, "worker", "--scheduler-file", str(file), *quiet, *more]
    with ExitStack() as running:
        process = running.enter_context(_process(scheduler, folder / "scheduler.log", folder))
        (folder / "scheduler.pid").write_text(str(process.pid))
        if workers:
            running.enter_context(_process(worker, folder / "worker.log", folder))
        deadline = time.monotonic() + _PATIENCE
        while not file.exists():
            assert time.monotonic() < deadline, (folder / "scheduler.log").read_text()
            time.sleep(0.05)
        yield file


@contextmanager
def ssh_server(folder: Path) -> Iterator[Server]:
    """Start OpenSSH's server for this user, with keys of its own; skip where it is missing."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("ssh-keygen") is None:
        pytest.skip("there is no OpenSSH server (Debian: openssh-server)")
    if find_spec("sshfs") is None:
        pytest.skip("not installed: sshfs")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    home, disk, port = folder / "home", folder / "disk", free_port()
    (home / ".ssh").mkdir(parents=True)
    disk.mkdir()
    mine, host = home / ".ssh" / "id_ed25519", folder / "host"
    for key in (mine, host):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    kind, public, *_ = host.with_suffix(".pub").read_text().split()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": host,
        "AuthorizedKeysFile": mine.with_suffix(".pub"),
        "PidFile": folder / "sshd.pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with _running([program, "-D", "-e", "-f", str(config)], port, folder / "sshd.log"):
        url = f"sftp://{getpass.getuser()}@127.0.0.1:{port}{disk}"
        yield Server(url, {"HOME": str(home)}, disk)
