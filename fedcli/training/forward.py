"""Forward passes without training: logits and the mean loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedcli.training.augmentation import Normalize, channels_last
from fedcli.training.batches import Source, in_order
from fedcli.training.devices import Portions


@torch.no_grad()
def predict(module: nn.Module, x: Tensor, normalize: Normalize, portions: Portions) -> Tensor:
    """Return the logits (N, classes) of a module in evaluation mode, in float32 on the CPU.

    ``x`` holds stored examples, which go to the device in portions. Raises torch's error if a
    single example does not fit.
    """
    module.eval()

    def logits(part: slice) -> Tensor:
        inputs = channels_last(normalize(x[part].to(portions.device)))
        found: Tensor = module(inputs).float().cpu()
        return found

    return torch.cat(list(portions.of(len(x), logits)))


def mean_loss(module: nn.Module, source: Source, *, normalize: Normalize, batch: Portions) -> float:
    """Return the mean cross-entropy of a module in evaluation mode on stored examples.

    For the global model it is F_k of q-FedAvg (Li et al. 2020, equation 1). Raises what
    ``predict`` raises.
    """
    total = 0.0
    for x, y in source.epoch(in_order(len(source), batch.size)):
        logits = predict(module, x, normalize, batch)
        total += F.cross_entropy(logits.double(), y.cpu(), reduction="sum").item()
    return total / len(source)
