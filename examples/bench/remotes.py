"""How long do the updates of many clients take to a remote, and from there to a coordinator?

    python examples/bench/remotes.py REMOTE [--clients 1000] [--features 3072] [--repeat 3]
                                     [--streams 1 default]

REMOTE is the URL of an S3 bucket or of an SSH server's folder. Every turn sends random updates
(3,072 features: 124 kB) of all clients from one copy of a run to a new folder there, and fetches
them into a coordinator's directory that has none, with each number of files at a time by turns.
Prints a Markdown table with the median seconds, and the ratio of each to the first by pairs.
"""

import argparse
import secrets
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from scale import make_run

from fedcli.formats.copies import CopyFile
from fedcli.remotes.network import S3Remote, SftpRemote
from fedcli.run import Run
from fedcli.steps.pull import pull
from fedcli.steps.push import push

DEFAULTS = {kind: kind.streams for kind in (S3Remote, SftpRemote)}
Taken = dict[tuple[str, str], list[float]]  # seconds, by command and files at a time


def copy_of(run: Run, root: Path) -> Run:
    """Return a copy of all clients, with their updates, which it has not sent."""
    shutil.copytree(run.root, root)
    CopyFile(run.id, run.info.clients).write(root / "copy.json")
    return Run.open(root)


def seconds(work: Callable[[], Sequence[str]], at_least: int) -> float:
    """Return how long it takes to move files, of which there have to be so many."""
    started = time.perf_counter()
    moved = work()
    taken = time.perf_counter() - started
    assert len(moved) >= at_least, moved
    return taken


def turn(run: Run, copy: Run, remote: str, streams: str) -> tuple[float, float]:
    """Send the updates to an empty place and fetch them; return the seconds of both."""
    for kind, number in DEFAULTS.items():
        kind.streams = number if streams == "default" else int(streams)
    for one in (run, copy):
        one.receipts_file.unlink(missing_ok=True)
    shutil.rmtree(run.round(1).path, ignore_errors=True)
    push(run, remote)
    clients = len(run.info.clients)
    sent = seconds(lambda: push(copy, remote).sent, clients)
    return sent, seconds(lambda: pull(run.root, [remote]).placed, clients)


def measure(options: argparse.Namespace, folder: Path) -> Taken:
    """Return the seconds of every turn."""
    place = f"{options.remote.rstrip('/')}/{secrets.token_hex(4)}"
    run = make_run(folder / "coordinator", options.clients, options.features)
    copy = copy_of(run, folder / "copy")
    taken: Taken = defaultdict(list)
    for number in range(options.repeat):
        for streams in options.streams if number % 2 == 0 else options.streams[::-1]:
            both = turn(run, copy, f"{place}/{number}-{streams}", streams)
            for command, one in zip(("push", "pull"), both, strict=True):
                taken[command, streams].append(one)
    return taken


def show(taken: Taken, streams: Sequence[str]) -> None:
    """Print the table."""
    print("| command | files at a time | seconds | ratio |\n| --- | --- | --- | --- |")
    for command in ("push", "pull"):
        first = taken[command, streams[0]]
        for each in streams:
            turns = taken[command, each]
            ratio = statistics.median(one / base for one, base in zip(turns, first, strict=True))
            print(f"| {command} | {each} | {statistics.median(turns):.1f} | {ratio:.2f} |")


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("remote")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--features", type=int, default=3072)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--streams", nargs="+", default=["1", "default"])
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        show(measure(options, Path(folder)), options.streams)


if __name__ == "__main__":
    main()
