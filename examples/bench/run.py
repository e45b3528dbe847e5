"""Compare ``fedcli run`` with one plain PyTorch loop that does the same work in one process.

    python examples/bench/run.py --model resnet18 --repeat 3
    python examples/bench/run.py --model cnn --precision bf16

The work: 3 clients train for 3 rounds, one epoch a round in batches of 64, on random pictures of
32×32 pixels (10,000 in all: 468 whole batches and a rest for each client and round); after each
round their models are averaged and the average is scored. The loop has all pictures in memory as
bytes, trains client after client on all cores, in channels-last layout, and writes nothing. It is
the best that we know: its SGD is three calls, since ``torch.optim`` takes 1.7 s to import, and its
ResNet-18 needs no torchvision. ``fedcli partition`` cuts the pictures into clients, and ``fedcli
run`` makes its processes, files and checks. Both are measured as whole processes, in turns, from
their start to their end.

Printed are seconds, and memory: the most that the process and its children took at one time, in
the kernel's proportional count, where what several share counts once (``Pss``, sampled ten times a
second). The last line is the median of the ratios of the times, below 1 where fedcli is faster.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the process that measures needs no torch
    from torch import Tensor, nn

CLIENTS = 3
ROUNDS = 3
BATCH_SIZE = 64
MOMENTUM = 0.9


def plain_loop(root: Path, lr: float, precision: str) -> None:
    """Do the rounds of the run at ``root``, without writing anything."""
    import torch

    from fedcli.datasets.shards import Examples, read_shard
    from fedcli.models import build
    from fedcli.models.convolution import Conv2d
    from fedcli.run import Run

    def tensors(examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(examples.x), torch.from_numpy(examples.y)

    run = Run.open(root)
    network = build(run.info.model, 10, run.info.dataset.shape, own=None, seed=0)
    for module in network.modules():
        if isinstance(module, Conv2d):
            module.__class__ = torch.nn.Conv2d  # every convolution is computed as one
    network.to(memory_format=torch.channels_last)
    clients = [tensors(read_shard(run.client_shard(client))) for client in run.info.clients]
    test = tensors(read_shard(run.test_shard))
    examples = sum(len(y) for _, y in clients)
    for number in range(1, ROUNDS + 1):
        base = {name: value.clone() for name, value in network.state_dict().items()}
        total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in base.items()}
        for x, y in clients:
            network.load_state_dict(base)
            train(network, x, y, lr, precision)
            for name, value in network.state_dict().items():
                total[name] += value * (len(y) / examples)
        network.load_state_dict(total)
        print(f"round {number}: accuracy {accuracy(network, *test, precision):.3f}", flush=True)


def output(network: "nn.Module", x: "Tensor", precision: str) -> "Tensor":
    import torch

    inputs = x.float().sub_(127.5).div_(63.75).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits: Tensor = network(inputs)
    return logits.float()


def train(network: "nn.Module", x: "Tensor", y: "Tensor", lr: float, precision: str) -> None:
    """Train for an epoch, in a random order."""
    import torch

    parameters = list(network.parameters())
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    network.train()
    for chosen in torch.randperm(len(y)).split(BATCH_SIZE):
        logits = output(network, x[chosen], precision)
        loss = torch.nn.functional.cross_entropy(logits, y[chosen])
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            torch._foreach_mul_(velocity, MOMENTUM)
            torch._foreach_add_(velocity, gradients)
            torch._foreach_add_(parameters, velocity, alpha=-lr)


def accuracy(network: "nn.Module", x: "Tensor", y: "Tensor", precision: str) -> float:
    import torch

    network.eval()
    with torch.inference_mode():
        parts = zip(x.split(256), y.split(256), strict=True)
        right = sum(
            int((output(network, inputs, precision).argmax(1) == labels).sum())
            for inputs, labels in parts
        )
    return right / len(y)


def tree(pid: int) -> list[int]:
    """The process and all that came from it, as far as they are there."""
    found = [pid]
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += tree(int(child))
    except OSError:
        pass  # it has ended
    return found


def memory(pid: int) -> int:
    """Bytes of memory of a process; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


@dataclass(frozen=True)
class Taken:
    """What a command took; ``memory`` is the peak of its processes in MB."""

    seconds: float
    memory: float


def measure(command: Sequence[str]) -> Taken:
    """Run a command to its end."""
    peak = 0
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while True:
        try:
            process.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, sum(map(memory, tree(process.pid))))
    elapsed = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {process.communicate()[1].decode()[-500:]}")
    return Taken(elapsed, peak / 1e6)


def make_pictures(folder: Path, options: argparse.Namespace) -> None:
    """Write random pictures; a fifth as many are the test set."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", options.pictures), ("test", max(10, options.pictures // 5))):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"{part}_labels"] = rng.permutation(count) % 10
    np.savez(folder / "pictures.npz", **arrays)


def partition(root: Path, options: argparse.Namespace) -> list[str]:
    """Return the command that cuts the pictures beside ``root`` into clients."""
    line = ["partition", "--run", str(root), "--dataset", f"npz:{root.parent}/pictures.npz"]
    line += ["--scheme", "iid", "--clients", str(CLIENTS), "--model", options.model]
    line += ["--epochs", "1", "--lr", str(options.lr), "--batch-size", str(BATCH_SIZE)]
    line += ["--momentum", str(MOMENTUM), "--precision", options.precision, "--quiet"]
    return [sys.executable, "-m", "fedcli", *line]


def measure_turn(folder: Path, options: argparse.Namespace) -> tuple[Taken, Taken]:
    """Return what fedcli took, and the loop on the run that it made."""
    root = folder / "run"
    cut = measure(partition(root, options))
    line = ["run", "--run", str(root), "--rounds", str(ROUNDS), "--jobs", options.jobs]
    played = measure([sys.executable, "-m", "fedcli", *line])
    settings = ["--lr", str(options.lr), "--precision", options.precision]
    loop = measure([sys.executable, __file__, "--loop", str(root), *settings])
    shutil.rmtree(root)
    return Taken(cut.seconds + played.seconds, max(cut.memory, played.memory)), loop


def ratio_of_turn(folder: Path, options: argparse.Namespace) -> float:
    """Measure a turn, print it and return fedcli / loop."""
    fedcli, loop = measure_turn(folder, options)
    ratio = fedcli.seconds / loop.seconds
    print(
        f"loop {loop.seconds:.1f} s, {loop.memory:.0f} MB;  fedcli {fedcli.seconds:.1f} s,"
        f" {fedcli.memory:.0f} MB;  ratio {ratio:.2f}",
        flush=True,
    )
    return ratio


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", choices=["resnet18", "cnn", "linear"])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--jobs", default="auto", help="of fedcli run")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--loop", type=Path, metavar="RUN", help="only be the plain loop")
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.loop:
        plain_loop(options.loop, options.lr, options.precision)
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        make_pictures(Path(folder), options)
        ratios = [ratio_of_turn(Path(folder), options) for _ in range(options.repeat)]
    print(
        f"{options.model}, {options.pictures} pictures, {options.precision}: fedcli / loop ="
        f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f},"
        f" {options.repeat} turns)"
    )


if __name__ == "__main__":
    main()
