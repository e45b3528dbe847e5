"""Normalisation and augmentation of batches; all random numbers are drawn on the CPU."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedcli.plan import TrainPlan
from fedcli.run.info import DatasetInfo


@dataclass(frozen=True)
class Normalize:
    """Turns a stored batch into the input of a network."""

    mean: Tensor
    std: Tensor
    as_rgb: bool

    @classmethod
    def for_dataset(
        cls, dataset: DatasetInfo, *, as_rgb: bool, device: torch.device
    ) -> "Normalize":
        """Use the constants of a run; ``as_rgb`` repeats the channel of grey images."""
        mean = torch.tensor(dataset.mean, device=device).view(-1, 1, 1)
        std = torch.tensor(dataset.std, device=device).view(-1, 1, 1)
        return cls(255 * mean, 255 * std, as_rgb and dataset.shape[0] == 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Map uint8 (N, C, H, W) to float32; float32 examples stay unchanged."""
        if x.dtype == torch.uint8:
            x = x.float().sub_(self.mean).div_(self.std)
        return x.expand(-1, 3, -1, -1) if self.as_rgb else x


def channels_last(x: Tensor) -> Tensor:
    """Return a batch of images in channels-last layout, and other batches unchanged."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image of (N, C, H, W) left to right with probability one half."""
    chosen = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(chosen.to(x.device).view(-1, 1, 1, 1), x.flip(-1), x)


def crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image of (N, C, H, W) by up to an eighth of its size, filling with zeros."""
    count, _, height, width = x.shape
    down, right = height // 8, width // 8
    padded = F.pad(x, (right, right, down, down))
    top = torch.randint(0, 2 * down + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * right + 1, (count, 1), generator=generator)
    rows = (top + torch.arange(height)).to(x.device).view(count, 1, height, 1)
    columns = (left + torch.arange(width)).to(x.device).view(count, 1, 1, width)
    examples = torch.arange(count, device=x.device).view(count, 1, 1, 1)
    channels = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
    return padded[examples, channels, rows, columns]


def cutout(x: Tensor, generator: torch.Generator) -> Tensor:
    """Zero a rectangle of half of each image's height and width, centred on a random pixel.

    DeVries & Taylor 2017, section 3.2: part of it may lie outside the image. Images are
    normalised, so that 0 is near the mean.
    """
    inside = []
    for size, shape in ((x.shape[2], (-1, 1, x.shape[2], 1)), (x.shape[3], (-1, 1, 1, x.shape[3]))):
        center = torch.randint(0, size, (len(x), 1), generator=generator)
        offset = torch.arange(size) - center + size // 4
        inside.append(((offset >= 0) & (offset < size // 2)).view(shape).to(x.device))
    return x.masked_fill(inside[0] & inside[1], 0)


AUGMENT: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"flip": flip, "crop": crop}
AUGMENT_NORMALIZED = {"cutout": cutout}


@dataclass(frozen=True)
class Targets:
    """The targets of a batch: labels or, with mixup, two labels and the share of the first."""

    labels: Tensor
    others: Tensor | None = None
    share: float = 1.0

    def __getitem__(self, part: slice) -> "Targets":
        """Return the targets of some of the examples."""
        others = None if self.others is None else self.others[part]
        return Targets(self.labels[part], others, self.share)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def loss(self, logits: Tensor, smoothing: float) -> Tensor:
        """Return the mean cross-entropy; with smoothing ε, against (1 - ε) y + ε / K."""
        loss = F.cross_entropy(logits, self.labels, label_smoothing=smoothing)
        if self.others is None:
            return loss
        other = F.cross_entropy(logits, self.others, label_smoothing=smoothing)
        return self.share * loss + (1 - self.share) * other


def mixup(
    x: Tensor, labels: Tensor, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """Blend each example with another of its batch (Zhang et al. 2018, equation 1).

    The share is drawn from Beta(alpha, alpha), once per batch, as in the authors' code.
    """
    # torch can draw from Beta only with its global generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    other = torch.randperm(len(x), generator=generator).to(x.device)
    return share * x + (1 - share) * x[other], Targets(labels, labels[other], share)


def prepare(
    x: Tensor, labels: Tensor, plan: TrainPlan, normalize: Normalize, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """Turn a stored batch into inputs and targets, augmented as the plan says."""
    for name in plan.augment:
        if name in AUGMENT:
            x = AUGMENT[name](x, generator)
    x, targets = normalize(x), Targets(labels)
    for name in plan.augment:
        if name in AUGMENT_NORMALIZED:
            x = AUGMENT_NORMALIZED[name](x, generator)
    if plan.mixup:
        x, targets = mixup(x, labels, plan.mixup, generator)
    return channels_last(x), targets
