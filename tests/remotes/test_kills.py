"""A push over the network that is killed with SIGKILL between files and inside one, and repeated.

Kills at every call to the file system, to and from folders and bundles, are in ``tests/storage``.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import Place
from support.remote_runs import COORDINATOR, Study
from support.thorough import sample

from fedcli.steps.verify import verify

# Push a run, and die before, inside or after a file, whatever other threads do then. Of an upload
# to SFTP half of the bytes are sent then, and of one to S3 there are some parts.
KILLED = """
import os, signal, sys
from pathlib import Path, PurePosixPath
import s3fs.core
from sshfs.file import SSHFile
from fedcli.remotes.network import NetworkRemote
from fedcli.run import Run
from fedcli.steps.push import push

root, remote, victim, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
create, call, write = NetworkRemote.create, s3fs.core.S3FileSystem._call_s3, SSHFile.write
chunks, size_of_victim = s3fs.core.calculate_chunksize, (root / victim).stat().st_size

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def killed(self, path, source, advance):
    if path == victim and how == "before":
        die()
    create(self, path, source, advance)
    if path == victim and how == "after":
        die()

def half(self, data):
    inside = how == "inside" and f".{PurePosixPath(victim).name}." in self.path
    write(self, data[: len(data) // 2] if inside else data)
    if inside:
        die()

async def first_part(self, method, *given, **named):
    answer = await call(self, method, *given, **named)
    if how == "inside" and method == "upload_part" and named["Key"].endswith(victim):
        die()
    return answer

def parts(size, *given, **named):
    inside = how == "inside" and size == size_of_victim
    return max(1, size // 3) if inside else chunks(size, *given, **named)

NetworkRemote.create, s3fs.core.S3FileSystem._call_s3, SSHFile.write = killed, first_part, half
s3fs.core.calculate_chunksize = parts
push(Run.open(root), remote)
"""


def kill(root: Path, remote: str, victim: str, how: str) -> None:
    words = [sys.executable, "-c", KILLED, str(root), remote, victim, how]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


POINTS = [(at, how) for at in range(3) for how in ("before", "inside", "after")]


@pytest.mark.parametrize("place", ["s3", "sftp"], indirect=True)
@pytest.mark.parametrize("party", ["0", COORDINATOR])
def test_a_push_killed_anywhere_and_repeated(study: Study, place: Place, party: str) -> None:
    first = study.push(COORDINATOR, f"{place.name}/first")
    study.pull("0", f"{place.name}/first")
    study.train("0")
    expected = first.sent if party == COORDINATOR else study.push("0", f"{place.name}/first").sent
    marker = expected[-1]
    for at, how in sample(POINTS, 3, kind=lambda point: point[1], seed=f"{party}/{place.name[:4]}"):
        remote, victim = f"{place.name}/{party}-{at}-{how}", expected[at]
        if party == "0":
            study.push(COORDINATOR, remote)
        kill(study.root(party), remote, victim, how)
        there = study.pull(COORDINATOR, remote) if party == "0" else None
        assert there is None or (there.placed == ()) == ((victim, how) != (marker, "after"))
        again = study.push(party, remote)
        assert (victim in again.sent, set(again.sent) <= set(expected)) == (how != "after", True)
        assert (marker in again.sent) == ((victim, how) != (marker, "after"))
        assert study.push(party, remote).bytes == 0
        other = "1" if party == COORDINATOR else COORDINATOR
        fetched = study.pull(other, remote)
        assert set(expected) <= {*fetched.placed, *(there.placed if there else ())}
        assert verify(study.root(other)).sound
        forget(study, other)


def forget(study: Study, party: str) -> None:
    """Let a party be as it was before it fetched anything of round 1."""
    root = study.root(party)
    for path in (root / "rounds" / "0001").glob("**/*"):
        if path.is_file():
            path.unlink()
    if party != COORDINATOR:
        for path in [*root.glob("rounds/*/*"), *root.glob("*.json")]:
            path.unlink()
