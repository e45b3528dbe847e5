"""Compare ``train-client``'s loop with a plain PyTorch loop over tensors in memory, in pairs.

    python examples/bench/training.py --model resnet18 --threads 2 --repeat 5

Both train the same network from the same weights on the same uint8 pictures in memory, with the
same batches, learning rate and momentum, in turns; what is printed is the median of the ratios of
their speeds (above 1: fedcli is faster) with the smallest and the largest.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from fedcli.models import build, takes_rgb
from fedcli.plan import TrainPlan
from fedcli.run_info import DatasetInfo, ModelInfo
from fedcli.training import Normalize, train

DATASET = DatasetInfo("random", tuple(map(str, range(10))), (3, 32, 32))


def plain_loop(module: nn.Module, x: torch.Tensor, y: torch.Tensor, plan: TrainPlan) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=plan.lr, momentum=plan.momentum)
    module.train()
    for _ in range(plan.epochs):
        order = torch.randperm(len(y))
        for start in range(0, len(y), plan.batch_size):
            chosen = order[start : start + plan.batch_size]
            inputs = (x[chosen].float() / 255 - 0.5) / 0.25
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(inputs), y[chosen])
            loss.backward()
            optimizer.step()


def fedcli_loop(module: nn.Module, x: torch.Tensor, y: torch.Tensor, plan: TrainPlan) -> None:
    as_rgb = takes_rgb(ModelInfo("resnet18"))
    normalize = Normalize.for_dataset(DATASET, as_rgb=as_rgb, device=x.device)
    train(module, x, y, plan, normalize=normalize, seed=0, on_epoch=lambda epoch: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--pictures", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x = torch.randint(0, 256, (options.pictures, 3, 32, 32), dtype=torch.uint8)
    y = torch.randint(0, 10, (options.pictures,))
    plan = TrainPlan(epochs=1)
    ratios = []
    for turn in range(options.repeat + 1):
        speeds = []
        for loop in (plain_loop, fedcli_loop):
            module = build(ModelInfo(options.model), 10, (3, 32, 32), own=None, seed=0)
            started = time.perf_counter()
            loop(module, x, y, plan)
            speeds.append(len(y) / (time.perf_counter() - started))
        if turn:  # the first turn warms up
            ratios.append(speeds[1] / speeds[0])
            print(f"plain {speeds[0]:.0f} images/s, fedcli {speeds[1]:.0f} images/s")
    print(
        f"{options.model}: fedcli / plain = {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f}, {options.repeat} turns)"
    )


if __name__ == "__main__":
    main()
