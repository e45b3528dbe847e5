"""Small networks and pictures for tests of local training."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fedcli.client.local_training import Assignment, Trained, train_locally
from fedcli.client.tensors import Tensors
from fedcli.plan import TrainPlan
from fedcli.run.info import DatasetInfo
from fedcli.training.augmentation import Normalize
from fedcli.training.batches import InMemory
from fedcli.training.loop import Epoch, Observer, Stage, Trainer

CPU = torch.device("cpu")
PICTURES = DatasetInfo("test", ("a", "b"), (3, 8, 8))
NORMALIZE = Normalize.for_dataset(PICTURES, as_rgb=True, device=CPU)


def pictures(count: int) -> tuple[Tensor, Tensor]:
    """Noise, uint8 (N, 3, 8, 8), in the class 1 where it is bright."""
    generator = torch.Generator().manual_seed(count)
    x = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return x, (x.float().mean((1, 2, 3)) > 127.5).long()


def out_of_memory(count: int) -> None:
    raise torch.OutOfMemoryError(f"{count} examples are too many")


class Greedy(nn.Module):
    """A network that does not fit into memory with more than ``most`` examples at a time."""

    def __init__(
        self, most: int | None, *layers: nn.Module, fail: Callable[[int], None] = out_of_memory
    ) -> None:
        super().__init__()
        self.most, self.fail = most, fail
        self.layers = nn.Sequential(*(layers or _layers()))

    def forward(self, x: Tensor) -> Tensor:
        if self.most is not None and len(x) > self.most:
            self.fail(len(x))
        result: Tensor = self.layers(x)
        return result


LIMIT = {"most": 1000}


def limited(num_classes: int) -> nn.Module:
    """Return a greedy network, as a user's own model; a test sets ``LIMIT``."""
    return Greedy(LIMIT["most"])


def _layers() -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)]


def assignment(plan: TrainPlan, module: nn.Module, count: int = 40, **others: Any) -> Assignment:
    """What a client with ``count`` pictures and nothing kept is to do."""
    plan = plan.resolved()
    return Assignment(
        module=module,
        build=lambda: copy.deepcopy(module),
        source=InMemory(*pictures(count), CPU),
        plan=plan,
        lr=plan.lr,
        tensors=Tensors(frozenset(), others.pop("local", frozenset())),
        normalize=NORMALIZE,
        seed=3,
        device=CPU,
        **others,
    )


def ignore(trainer: Trainer, stage: Stage, epoch: Epoch) -> None:
    assert epoch.seconds > 0


def trained(
    given: Assignment,
    on_epoch: Callable[[Trainer, Stage, Epoch], None] = ignore,
    on_shrink: Callable[[int], None] = lambda size: None,
) -> Trained:
    return train_locally(given, Observer(on_epoch), on_shrink)
