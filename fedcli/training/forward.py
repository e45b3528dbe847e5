"""Examples put through a network that is not trained: its answers, and its mean loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedcli.training.augmentation import Normalize, channels_last
from fedcli.training.batches import Source, in_order
from fedcli.training.devices import Portions


@torch.no_grad()
def predict(module: nn.Module, x: Tensor, normalize: Normalize, portions: Portions) -> Tensor:
    """Return the logits (N, classes) of a module in evaluation mode, in float32 on the CPU.

    ``x`` are examples as they are stored; they go to the device portion by portion. Raises torch's
    error when one example at a time does not fit.
    """
    module.eval()

    def logits(part: slice) -> Tensor:
        inputs = channels_last(normalize(x[part].to(portions.device)))
        found: Tensor = module(inputs).float().cpu()
        return found

    return torch.cat(list(portions.of(len(x), logits)))


def mean_loss(module: nn.Module, source: Source, *, normalize: Normalize, batch: Portions) -> float:
    """Return the mean cross-entropy of a module, in evaluation mode, on stored examples.

    It is F_k of q-FedAvg (Li et al. 2020, equation 1), where the module is the global model.
    Raises as ``predict`` does.
    """
    total = 0.0
    for x, y in source.epoch(in_order(len(source), batch.size)):
        logits = predict(module, x, normalize, batch)
        total += F.cross_entropy(logits.double(), y.cpu(), reduction="sum").item()
    return total / len(source)
