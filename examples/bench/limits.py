"""What do whole commands take, over the least that their work can take on this machine?

    python examples/bench/limits.py [--updates 100] [--turns 5] [--run-turns 3] [--directory DIR]

Two questions, each answered by paired turns of whole processes, from their start to their end:

``aggregate`` of 100 updates of a ResNet-18, which it makes (4.5 GB, removed at the end), against a
program that reads the same files and computes their SHA-256 with as many threads. That program
runs before every command. MB are the peak of resident memory.

``partition`` and ``run``, for 3 clients × 3 rounds on 10,000 pictures, against the best plain loop:
see ``run.py``. MB are the peak of the proportional count of all processes.

The table is Markdown: the median of the ratios with the smallest and the largest, and medians
of seconds and megabytes. It takes ten minutes on two idle cores.
"""

import argparse
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aggregate
import run

from fedcli.system import available_cores, processor_name

RULES = {
    "`aggregate`": [],
    "`aggregate --no-diagnostics`": ["--no-diagnostics"],
    "`aggregate --strategy median`": ["--strategy", "median"],
    "`aggregate --strategy krum`": ["--strategy", "krum"],
}


@dataclass(frozen=True)
class Turn:
    """Seconds and MB of fedcli and of what it is compared with."""

    seconds: float
    least: float
    memory: float


def row(what: str, against: str, turns: Sequence[Turn]) -> str:
    ratios = [turn.seconds / turn.least for turn in turns]
    seconds, least, memory = (
        statistics.median(column)
        for column in zip(*((t.seconds, t.least, t.memory) for t in turns), strict=True)
    )
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {what} | {against} | {spread} | {seconds:.2f} | {least:.2f} | {memory:.0f} |"


def aggregations(folder: Path, updates: int, turns: int) -> Iterator[str]:
    """Measure each rule in every turn, so that all see the same hours of the machine."""
    made, common = aggregate.make_run(folder / "fedrun")
    for number in range(updates):
        aggregate.add_update(made, common, number)
    commands = aggregate.commands(made, "mean")
    for name in ("read", "start"):  # into the page cache
        aggregate.measure(commands[name])
    found: dict[str, list[Turn]] = {what: [] for what in RULES}
    for _ in range(turns):
        for what, options in RULES.items():
            least, _memory = aggregate.measure(commands["hash"])
            seconds, memory = aggregate.measure([*commands["diagnosed"], *options])
            aggregate.remove_results(made)
            found[what].append(Turn(seconds, least, memory))
    for what, measured in found.items():
        yield row(what, f"hashing {updates} updates", measured)


def runs(folder: Path, model: str, turns: int) -> Iterator[str]:
    options = run.parser().parse_args(["--model", model])
    run.make_pictures(folder, options)
    measured: list[Turn] = []
    for _ in range(turns):
        fedcli, loop = run.measure_turn(folder, options)
        measured.append(Turn(fedcli.seconds, loop.seconds, fedcli.memory))
    yield row(f"`partition`, `run`: {model}", "the best plain loop", measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5, help="of aggregations; 0 leaves them out")
    parser.add_argument("--run-turns", type=int, default=3, help="of whole runs; 0 leaves them out")
    parser.add_argument("--directory", type=Path, help="where to make everything (removed again)")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"{processor_name()}, {available_cores()} cores, {memory:.0f} GiB, {platform.system()};")
    print(f"two threads do {aggregate.two_threads():.1f} times the work of one\n")
    print("| command | against | ratio | seconds | against (s) | MB |", flush=True)
    print("| --- | --- | --- | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        needed = (options.updates + 6) * aggregate.MODEL_BYTES
        if (free := shutil.disk_usage(directory).free) < needed:
            raise SystemExit(f"{directory}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed")
        aggregated = aggregations(Path(directory), options.updates, options.turns)
        for line in aggregated if options.turns else ():
            print(line, flush=True)
        shutil.rmtree(Path(directory) / "fedrun", ignore_errors=True)
        for model in ("resnet18", "cnn") if options.run_turns else ():
            for line in runs(Path(directory), model, options.run_turns):
                print(line, flush=True)


if __name__ == "__main__":
    main()
