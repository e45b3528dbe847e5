"""The two small built-in networks: a convolutional and a linear one."""

import math

import torch
from torch import Tensor, nn


class CNN(nn.Module):
    """The network of McMahan et al. 2017 for CIFAR, from TensorFlow's tutorial.

    Two 5×5 convolutions of 64 channels, each with 3×3 max-pooling of stride 2, fully connected
    layers of 384 and 192, and a linear layer. It has 1,068,298 parameters for the paper's 24×24
    crops and 1,756,426 for 3×32×32, because the first fully connected layer depends on the image
    size. It omits the tutorial's local response normalisation.
    """

    def __init__(self, num_classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        self.conv1 = nn.Conv2d(channels, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.fc1 = nn.Linear(64 * math.ceil(height / 4) * math.ceil(width / 4), 384)
        self.fc2 = nn.Linear(384, 192)
        self.out = nn.Linear(192, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to logits (N, num_classes)."""
        # On a CPU, torch's max-pooling is several times faster in channels-last layout.
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        logits: Tensor = self.out(torch.relu(self.fc2(x)))
        return logits


class Linear(nn.Module):
    """Multinomial logistic regression on examples of any shape."""

    def __init__(self, num_classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.fc = nn.Linear(math.prod(shape), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ...) to logits (N, num_classes)."""
        logits: Tensor = self.fc(torch.flatten(x, 1))
        return logits
