"""ResNet-18 (He et al. 2016), with torchvision's layout and names but without its import.

Importing torchvision takes as long as importing torch, which clients with the most common network
should not have to wait for. Modules are created in torchvision's order, so that a seed gives the
same weights in both.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedcli.models.convolution import Conv2d

Norm = Callable[[int], nn.Module]


def batch_norm(channels: int) -> nn.Module:
    """Normalise over the batch; the running statistics are buffers and are averaged."""
    return nn.BatchNorm2d(channels)


def group_norm(channels: int) -> nn.Module:
    """Normalise over 32 groups of channels (Wu & He 2018), without running statistics."""
    return nn.GroupNorm(32, channels)


NORMS: dict[str, Norm] = {"batch": batch_norm, "group": group_norm}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = norm(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            projection = Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x)) + shortcut
        return torch.relu_(x)


def _stage(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(inputs, outputs, stride, norm), BasicBlock(outputs, outputs, 1, norm)
    )


class ResNet18(nn.Module):
    """ResNet-18 for (N, 3, H, W) images.

    The ``imagenet`` stem is torchvision's (7×7 with stride 2, then max-pooling); the ``cifar``
    stem is the 3×3 convolution that He et al. use for 32×32 images, without max-pooling.
    """

    def __init__(self, num_classes: int, stem: str = "imagenet", norm: str = "batch") -> None:
        super().__init__()
        make_norm = NORMS[norm]
        small = stem == "cifar"
        self.conv1 = (
            Conv2d(3, 64, 3, padding=1, bias=False)
            if small
            else Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        )
        self.bn1 = make_norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, 1, make_norm)
        self.layer2 = _stage(64, 128, 2, make_norm)
        self.layer3 = _stage(128, 256, 2, make_norm)
        self.layer4 = _stage(256, 512, 2, make_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to logits (N, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits
