"""Local training: stages of epochs over a client's examples.

Images stay uint8 until they are used; augmentation and normalisation work batch by batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedcli.plan import TrainPlan
from fedcli.training.augmentation import Normalize
from fedcli.training.batches import InMemory
from fedcli.training.gradients import Gradients
from fedcli.training.loop import Epoch, Observer, Stage, Task, Trainer, epochs_of


def train(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    plan: TrainPlan,
    *,
    normalize: Normalize,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train all of ``module`` in place, as in FedAvg; x, y and module are on one device.

    ``x`` is (N, ...), uint8 or float32; ``y`` is int64 (N,). The learning rate is the plan's.
    Raises what ``Trainer.run`` raises.
    """
    module.to(memory_format=torch.channels_last)
    source = InMemory(x, y, x.device)
    parameters = [p for p in module.parameters() if p.requires_grad]
    stage = Stage("", module, parameters, epochs_of(plan, len(y)), plan.steps)
    task = Task(source, plan, plan.lr, normalize, seed, x.device)
    gradients = Gradients(plan, x.device, None, lambda size: None)
    observer = Observer(lambda _, __, epoch: on_epoch(epoch))
    trainer = Trainer(task, [stage], gradients, observer)
    trainer.run()
    return trainer.epochs[0]
