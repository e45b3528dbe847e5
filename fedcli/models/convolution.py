"""Convolutions on maps that have become as small as what they look at."""

import torch.nn.functional as F
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """A convolution that is computed as a linear map where its output is one pixel.

    Such as in the last stage of a ResNet on 32×32 pictures, whose maps are 1×1: eight of the nine
    taps of its convolutions lie in the padding. There they meet zeros and have no gradient, and
    are most of the time of a step. The sums are the same but for their order. Padding is with
    zeros; dilation and groups are 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H', W')."""
        rows, columns = (self._seen(axis, x.shape[axis - 2]) for axis in (0, 1))
        if rows is None or columns is None:
            return super().forward(x)
        pixels = x[..., : rows.stop - rows.start, : columns.stop - columns.start]
        weight = self.weight[..., rows, columns]
        return F.linear(pixels.flatten(1), weight.flatten(1), self.bias)[..., None, None]

    def _seen(self, axis: int, size: int) -> slice | None:
        """Return the taps that see one of ``size`` pixels; None where the output has several."""
        taps, stride, padding = self.kernel_size[axis], self.stride[axis], self.padding[axis]
        assert isinstance(padding, int)
        if not 0 <= size + 2 * padding - taps < stride:
            return None
        return slice(padding, min(taps, padding + size))
