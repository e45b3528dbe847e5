"""Convolutions on feature maps that are as small as the kernel."""

import torch.nn.functional as F
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """A convolution that is computed as a linear map if its output is a single pixel.

    In the last stage of a ResNet on 32×32 images, whose feature maps are 1×1, eight of the nine
    weights of a kernel lie in the padding. They are multiplied by zeros and have no gradient, but
    take most of the time of a step. The sums differ only in their order. Padding is with zeros;
    dilation and groups are 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H', W')."""
        taps = self.taps(x)
        if taps is None:
            return super().forward(x)
        rows, columns = taps
        pixels = x[..., : rows.stop - rows.start, : columns.stop - columns.start]
        weight = self.weight[..., rows, columns]
        return F.linear(pixels.flatten(1), weight.flatten(1), self.bias)[..., None, None]

    def taps(self, x: Tensor) -> tuple[slice, slice] | None:
        """Return the rows and columns of the kernel on any pixel of x; None for several outputs."""
        rows, columns = (self._seen(axis, x.shape[axis - 2]) for axis in (0, 1))
        return None if rows is None or columns is None else (rows, columns)

    def _seen(self, axis: int, size: int) -> slice | None:
        """Return the taps on any of ``size`` pixels, or None if the output has several pixels."""
        taps, stride, padding = self.kernel_size[axis], self.stride[axis], self.padding[axis]
        assert isinstance(padding, int)
        if not 0 <= size + 2 * padding - taps < stride:
            return None
        return slice(padding, min(taps, padding + size))
