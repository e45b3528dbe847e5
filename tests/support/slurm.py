"""A Slurm cluster of two virtual nodes on loopback, started and stopped here.

Its daemons keep everything in one folder of their own, so that several clusters, and one that the
machine already has, do not know of each other. Nothing accounts for jobs: there is no ``sacct``.
"""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.daemons import free_port

_PATIENCE = 60.0  # seconds until the nodes are idle, or the queue is empty
_DAEMONS = ("munged", "slurmctld", "slurmd")
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")  # not on everybody's PATH
_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPort={ports[0]}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=2500
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
KillWait=10
MinJobAge=3600
AccountingStorageType=accounting_storage/none
MaxArraySize=4
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=8000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# How the memory of a job is limited: by looking at it every second, or by the kernel.
_BY_LOOKING = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
"""
_BY_CGROUPS = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/none
"""
_CGROUP_SETTINGS = """\
CgroupPlugin=cgroup/v1
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
"""
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class SlurmCluster:
    """A running cluster: what the environment of its users has to say."""

    environment: dict[str, str]

    def __call__(self, program: str, *arguments: str) -> str:
        """Run one of Slurm's programs and return what it printed."""
        return subprocess.run(
            [program, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE,
        ).stdout.strip()

    def queue(self) -> list[str]:
        """Return the ids of the jobs that wait or run, one for each task of an array."""
        return self("squeue", "--noheader", "--array", "--format=%i").split()

    def wait_until_empty(self) -> None:
        """Wait until no job waits or runs."""
        wait_until(lambda: not self.queue(), lambda: self("squeue"))

    def state(self, job: str) -> str:
        """Return the state of a job, as the controller remembers it."""
        shown = self("scontrol", "--oneliner", "show", "job", job)
        return shown.partition("JobState=")[2].split()[0]


def wait_until(happened: Callable[[], bool], explain: Callable[[], str]) -> None:
    """Wait until something has happened; fail with the explanation if it does not."""
    deadline = time.monotonic() + _PATIENCE
    while not happened():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


def _programs() -> list[str]:
    """Return the daemons' programs; skip where one is missing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_FOLDERS])
    found = [shutil.which(name, path=path) for name in _DAEMONS]
    if None in found or shutil.which("sbatch") is None:
        pytest.skip("there is no Slurm (Debian: slurm-wlm and munge)")
    return [program for program in found if program]


@contextmanager
def _running(words: Sequence[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a daemon in the foreground until the block ends."""
    with (folder / f"{Path(words[0]).name}-{words[-1]}.log").open("w") as log:
        process = subprocess.Popen(
            words,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal of the tests must not end it first
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _logs(folder: Path) -> str:
    return "\n".join(f"{log.name}\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))


def _has_two_idle_nodes(environment: dict[str, str]) -> bool:
    shown = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE,
    )
    return len(shown.stdout.split()) == 2


@contextmanager
def _daemons(folder: Path, programs: Sequence[str], limits: str) -> Iterator[dict[str, str]]:
    """Run the daemons; the value is the environment of their users."""
    munged, slurmctld, slurmd = programs
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    (folder / "state").mkdir()
    host, ports = socket.gethostname().partition(".")[0], [free_port() for _ in range(3)]
    text = _CONFIGURATION.format(folder=folder, host=host, user=getpass.getuser(), ports=ports)
    (folder / "slurm.conf").write_text(text + limits)
    (folder / "cgroup.conf").write_text(_CGROUP_SETTINGS)
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    names = {"socket": "sock", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
    options = [f"--{option}={folder}/munge.{ending}" for option, ending in names.items()]
    with ExitStack() as stack:
        log = f"--log-file={folder}/munged.log"
        words = [munged, "--force", *options, log, "--foreground"]
        stack.enter_context(_running(words, folder, environment))
        wait_until((folder / "munge.sock").exists, lambda: _logs(folder))
        for words in (
            [slurmctld, "-c", "-D"],
            [slurmd, "-D", "-N", "n1"],
            [slurmd, "-D", "-N", "n2"],
        ):
            stack.enter_context(_running(words, folder, environment))
        yield environment


@contextmanager
def slurm_cluster_with_cgroups() -> Iterator[SlurmCluster]:
    """Start a cluster whose jobs the kernel confines; skip where it cannot."""
    memory = _CGROUPS / "memory" / "memory.limit_in_bytes"
    if os.geteuid() != 0 or not os.access(memory, os.W_OK):
        pytest.skip("Slurm's cgroups need root, and the memory controller of cgroup v1")
    try:
        with slurm_cluster(_BY_CGROUPS) as cluster:
            yield cluster
    finally:
        for left in _CGROUPS.glob("*/slurm_n[12]"):  # empty; the daemons leave them
            left.rmdir()


@contextmanager
def slurm_cluster(limits: str = _BY_LOOKING) -> Iterator[SlurmCluster]:
    """Start a cluster of two nodes with two cores each; skip where Slurm is not installed."""
    programs = _programs()
    # The path of a Unix socket is at most 108 bytes, which pytest's own folders exceed.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with _daemons(folder, programs, limits) as environment:
            wait_until(lambda: _has_two_idle_nodes(environment), lambda: _logs(folder))
            cluster = SlurmCluster(environment)
            yield cluster
            cluster("scancel", "--full", "--user", getpass.getuser())
            cluster.wait_until_empty()
    finally:
        shutil.rmtree(folder)
