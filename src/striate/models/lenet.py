"""LeNet-5 in its modern form: ReLU, max pooling and a plain last layer; 61,706 parameters.

Not the network as published, which had a connection table, trainable subsampling and radial
basis functions at its end.
"""

from __future__ import annotations

from typing import Any

from striate.models.starts import constructor
from striate.nn.activation import ReLU
from striate.nn.conv import Conv2d
from striate.nn.linear import Linear
from striate.nn.module import Module
from striate.nn.pool import MaxPool2d
from striate.nn.structure import Flatten


class LeNet5(Module):
    """LeNet-5: two convolutions with pooling, three fully connected layers.

    Args:
        num_classes: outputs, one logit a class.
        in_channels: channels of the images, 1 for grey.
    Input: (n, in_channels, 28, 28). Output: logits (n, num_classes).
    Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document
        recognition, Proceedings of the IEEE 86 (1998); the activations and pooling are today's.

    >>> import numpy as np
    >>> LeNet5()(np.zeros((2, 1, 28, 28))).shape
    (2, 10)
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, 6, 5, padding=2)  # (n, 6, 28, 28)
        self.relu1 = ReLU()
        self.pool1 = MaxPool2d(2)  # (n, 6, 14, 14)
        self.conv2 = Conv2d(6, 16, 5)  # (n, 16, 10, 10)
        self.relu2 = ReLU()
        self.pool2 = MaxPool2d(2)  # (n, 16, 5, 5)
        self.flatten = Flatten()
        self.fc1 = Linear(400, 120)
        self.relu3 = ReLU()
        self.fc2 = Linear(120, 84)
        self.relu4 = ReLU()
        self.fc3 = Linear(84, num_classes)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, 28, 28)."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.flatten(x)
        x = self.relu3(self.fc1(x))
        x = self.relu4(self.fc2(x))
        return self.fc3(x)


lenet5 = constructor("lenet5", "LeNet-5 in its modern form: 61,706 parameters.", LeNet5)
