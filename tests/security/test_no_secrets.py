"""No secret is in a file of a run, in what a command prints, or in the list of processes."""

import base64
import contextlib
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.masked_runs import key_file, private_keys
from support.networks import pictures
from support.spying import Spy, shown

from fedcli.cli import execute
from fedcli.security import secret_streams

PRIVATE = "--dp example --clip 1 --noise-multiplier 1"
SMALL = "--model linear --image-size 8 --epochs 1 --batch-size 8"
MEMBERS = "abc"


class Parties:
    """A coordinator and three members in a folder, with their keys and data, and the run."""

    def __init__(self, folder: Path, spy: Spy, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self.spy, self._capture = folder, spy, capture
        self.said = ""
        for name in (*MEMBERS, "coordinator"):
            self.key = key_file(folder, name)
            for private in private_keys(name):
                spy.add(private)
        x, y = (values.numpy() for values in pictures(24))
        np.savez(folder / "own.npz", x=x, y=y)
        self.say("keygen --noise noise.key")
        text = (folder / "noise.key").read_text()
        self.noise = base64.b64decode(text.removeprefix("noise:"))

    def say(self, line: str, *, status: int = 0) -> None:
        """Run a command in the folder, and keep what it prints."""
        with contextlib.chdir(self.folder):
            found = execute(line.split())
        out, err = self._capture.readouterr()
        self.said += f"{line}\n{out}{err}"
        assert found == status, err

    def make(self, *options: str) -> None:
        """Make a run of three members."""
        public = {}
        for name in MEMBERS:
            keys = key_file(self.folder, name).public
            public[name] = keys.line
        members = " ".join(f"--member {name}={line}" for name, line in public.items())
        self.say(f"init --classes x,y {members} --key coordinator.key {SMALL} {' '.join(options)}")

    def train(self, member: str, more: str = "", *, status: int = 0) -> None:
        own = f"--data own.npz --state state-{member} --key {member}.key --threads 1"
        self.say(f"train-client --id {member} {own} {more}", status=status)

    def published(self) -> dict[str, bytes]:
        """Return what a reader of the run sees, and what commands printed and exported."""
        hidden = (".key", ".npz", ".answered", ".closed")
        found = {"printed": self.said.encode()}
        for path in self.folder.rglob("*"):
            name = str(path.relative_to(self.folder))
            kept = name.startswith("state-") or any(part in name for part in hidden)
            if path.is_file() and not kept:
                found[name] = path.read_bytes()
        return found


@pytest.fixture
def parties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Parties:
    return Parties(tmp_path, Spy(monkeypatch), capfd)


def test_the_search_finds_what_it_looks_for(parties: Parties) -> None:
    assert parties.noise in parties.spy.secrets
    secret = private_keys("a")[1]
    pem = (parties.folder / "a.key").read_bytes()
    texts = [pem, secret, secret.hex().encode(), base64.b64encode(b"x" + secret)]
    for text in (*texts, repr(secret).encode(), str(int.from_bytes(secret)).encode()):
        assert shown([secret], {"text": text}) == ["text"]
    assert shown([secret], {"text": private_keys("b")[1]}) == []


@pytest.mark.parametrize("kind", ["example level", "client level", "masked", "masked with noise"])
def test_files_and_output_show_no_secret(parties: Parties, kind: str) -> None:
    client_level = "--update-clip 1 --update-noise 1"
    options, noise, masked = {
        "example level": ((PRIVATE,), "--noise-key noise.key", False),
        "client level": ((client_level, "--noise-key noise.key"), "", False),
        "masked": (("--secagg --secagg-clip 1", PRIVATE), "--noise-key noise.key", True),
        "masked with noise": (("--secagg", client_level), "", True),
    }[kind]
    parties.make(*options)
    for member in MEMBERS:
        parties.train(member, f"{noise} --checkpoint-every 1 {'--json' * (member == 'b')}")
    parties.train("a", noise)  # nothing to do
    if masked:
        parties.say("aggregate --close --key coordinator.key --debug")
        for member in MEMBERS:
            parties.say(f"unmask --id {member} --key {member}.key --json")
    own_noise = "--noise-key noise.key" if kind == "client level" else ""
    parties.say(f"aggregate --key coordinator.key {own_noise} --json")
    parties.say("evaluate --data own.npz --store")
    for line in ("status", "status --json", "verify --json", "report --html report.html"):
        parties.say(line)
    parties.say("gc --keep-last 1 --json")
    parties.say("export -o model.safetensors")
    parties.say("inspect rounds/0001/global.safetensors --json")
    texts = parties.published()
    assert len(texts) > 15
    assert len(parties.spy.secrets) > 10
    assert shown(parties.spy.secrets, texts) == []


FAULTS = {
    "the key of noise": "fedcli.security.noise_key:NoiseKey.streams",
    "a private key": "fedcli.security.keys:SigningKey.derive",
    "a signature": "fedcli.security.keys:SigningKey.sign",
    "the key of digests": "fedcli.security.examples_key:ExamplesKey.digest",
    "a stream": "fedcli.security.secret_streams:SecretStreams.words",
    "a seed": "fedcli.security.secret_streams:SecretStreams.seed",
    "noise": "fedcli.training.private:add_noise",
    "a batch": "fedcli.training.private:poisson",
    "a secret of two": "fedcli.masking.keys:MaskingKey.agree",
    "a derived secret": "fedcli.masking.secrets:Secret.derive",
    "masks": "fedcli.client.masked:mask",
    "shares": "fedcli.client.masked:seal",
}


class ProvokedError(RuntimeError):
    """An error that nobody has thought of, and that shows what it was given."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_traceback_shows_no_secret(
    parties: Parties, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    parties.make("--secagg --secagg-clip 1", PRIVATE)
    for place in FAULTS.values():
        with monkeypatch.context() as patch:
            _break(patch, place, when)
            parties.train("a", "--noise-key noise.key --debug", status=1)
            assert f"ProvokedError: {place}" in parties.said
            parties.train("a", "--noise-key noise.key --debug --json", status=1)
    assert parties.said.count("Traceback (most recent call last)") >= 2 * len(FAULTS)
    assert shown(parties.spy.secrets, parties.published()) == []


def _break(patch: pytest.MonkeyPatch, place: str, when: str) -> None:
    module, _, name = place.partition(":")
    owner: Any = import_module(module)
    *outer, last = name.split(".")
    for one in outer:
        owner = getattr(owner, one)
    really = getattr(owner, last)

    def broken(*given: Any, **more: Any) -> Any:
        if when == "after":
            really(*given, **more)
        raise ProvokedError(f"{place} of {given!r} {more!r}")

    patch.setattr(owner, last, broken)


def _of_wrong_key(wrong: Callable[[bytes], Any]) -> Callable[[bytes, int], bytearray]:
    really = secret_streams.key_stream
    return lambda key, size: really(wrong(key), size)


def test_what_the_library_says_of_a_wrong_key_shows_none(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own errors, of keys of wrong lengths and kinds."""
    parties.make(PRIVATE)
    for wrong in (lambda key: key[:-1], lambda key: key.hex(), lambda key: [*key]):
        with monkeypatch.context() as patch:
            patch.setattr(secret_streams, "key_stream", _of_wrong_key(wrong))
            parties.train("a", "--noise-key noise.key --debug", status=1)
    assert shown(parties.spy.secrets, parties.published()) == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_list_of_processes_shows_no_secret(parties: Parties, tmp_path: Path) -> None:
    """Arguments and environment of a running command and of its workers."""
    cut = f"partition --run simulated --limit 60 --clients 3 --model cnn --epochs 3 {PRIVATE}"
    parties.say(cut)
    words = "run --run simulated --rounds 1 --jobs 2 --threads 1 --noise-key noise.key"
    command = [sys.executable, "-m", "fedcli", *words.split()]
    running = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    seen = defaultdict[str, bytes](bytes)
    while running.poll() is None:
        for name, text in _processes(running.pid):
            seen[name] += text * (text not in seen[name])
        time.sleep(0.02)
    assert running.returncode == 0
    assert running.stdout is not None
    seen["printed"] = running.stdout.read()
    running.stdout.close()
    assert len({name.split()[0] for name in seen}) > 3  # the command, the server, and workers
    assert any(b"noise.key" in text for text in seen.values())  # the path is no secret
    assert shown(parties.spy.secrets, {**seen, **parties.published()}) == []


def _processes(pid: int) -> Iterator[tuple[str, bytes]]:
    """Read what the list of processes shows of a process and of all that it has started."""
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            yield f"{pid} {name}", Path(f"/proc/{pid}/{name}").read_bytes()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _processes(int(child))
