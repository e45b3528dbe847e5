"""How long does a coordinator pull the updates of many clients?

    python examples/bench/remotes.py REMOTE [--clients 1000] [--features 3072] [--repeat 3]
                                     [--streams 1 default]

Sends a run whose clients have delivered random updates (3,072 features: 124 kB) to a new folder of
REMOTE, the URL of an S3 bucket or of an SSH server's folder, and pulls them into an empty
coordinator's directory, with each number of files at a time by turns. Prints a Markdown table with
the median seconds, and the ratio of each to the first by pairs.
"""

import argparse
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scale import make_run

from fedcli.remotes.network import S3Remote, SftpRemote
from fedcli.remotes.opening import open_remote
from fedcli.run import Run
from fedcli.steps.pull import pull
from fedcli.steps.push import push

DEFAULTS = {kind: kind.streams for kind in (S3Remote, SftpRemote)}


def send(run: Run, remote: str) -> None:
    """Send the run, and the updates that it holds, as their clients would."""
    push(run, remote)
    updates = sorted(run.round(1).path.glob("updates/*.safetensors"))
    with open_remote(remote, run.root) as there, ThreadPoolExecutor(8) as pool:
        for _ in pool.map(
            lambda path: there.create(str(path.relative_to(run.root)), path, lambda count: None),
            updates,
        ):
            pass


def seconds(run: Run, remote: str, streams: str) -> float:
    """Pull all updates into a directory that has none."""
    shutil.rmtree(run.round(1).path, ignore_errors=True)
    for kind, number in DEFAULTS.items():
        kind.streams = number if streams == "default" else int(streams)
    started = time.perf_counter()
    result = pull(run.root, [remote])
    assert len(result.placed) == len(run.info.clients)
    return time.perf_counter() - started


def measure(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of every turn, by files at a time."""
    remote = f"{options.remote.rstrip('/')}/{secrets.token_hex(4)}"
    run = make_run(folder / "coordinator", options.clients, options.features)
    send(run, remote)
    taken: dict[str, list[float]] = {streams: [] for streams in options.streams}
    for turn in range(options.repeat):
        for streams in options.streams if turn % 2 == 0 else options.streams[::-1]:
            taken[streams].append(seconds(run, remote, streams))
    return taken


def show(taken: dict[str, list[float]]) -> None:
    """Print the table."""
    first = next(iter(taken.values()))
    print("| files at a time | seconds | ratio |\n| --- | --- | --- |")
    for streams, turns in taken.items():
        ratio = statistics.median(one / base for one, base in zip(turns, first, strict=True))
        print(f"| {streams} | {statistics.median(turns):.1f} | {ratio:.2f} |")


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("remote")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--features", type=int, default=3072)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--streams", nargs="+", default=["1", "default"])
    with tempfile.TemporaryDirectory() as folder:
        show(measure(parser.parse_args(words), Path(folder)))


if __name__ == "__main__":
    main()
