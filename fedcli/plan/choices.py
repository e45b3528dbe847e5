"""What training chooses by name: augmentations, optimizers, precisions."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """What a name stands for, and where it comes from."""

    summary: str
    source: str = ""


AUGMENTATIONS: dict[str, Choice] = {
    "flip": Choice("mirror half of the pictures left to right"),
    "crop": Choice("shift each picture by up to an eighth of its size, filling with black"),
    "cutout": Choice(
        "put the mean in a square of half the picture's size", "DeVries & Taylor 2017"
    ),
}
OPTIMIZERS: dict[str, Choice] = {
    "sgd": Choice("with --momentum, as torch.optim.SGD", "Sutskever et al. 2013"),
    "adam": Choice("--momentum is its β₁, weight decay an L2 penalty", "Kingma & Ba 2015"),
    "adamw": Choice("Adam with decoupled weight decay", "Loshchilov & Hutter 2019"),
}
PRECISIONS: dict[str, str] = {
    "fp32": "32-bit floating point",
    "bf16": "bfloat16 where torch.autocast holds it safe; the weights stay fp32",
    "fp16": "half precision likewise, with a scaled loss",
}
