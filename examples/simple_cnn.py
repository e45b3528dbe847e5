"""The network that NIID-Bench trains on CIFAR-10: LeNet-5 with 6 and 16 channels."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class SimpleCNN(nn.Module):
    """Two 5×5 convolutions with max-pooling, then layers of 120 and 84 units, and a linear one."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 32, 32) to logits (N, num_classes)."""
        # Pooling before ReLU is the same function with a quarter of the work.
        x = torch.relu(max_pool2d(self.conv1(x), 2))
        x = torch.relu(max_pool2d(self.conv2(x), 2))
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        logits: Tensor = self.fc3(torch.relu(self.fc2(x)))
        return logits
