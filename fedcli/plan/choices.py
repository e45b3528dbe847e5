"""The named choices of training: augmentations, optimizers, precisions, encodings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """The meaning of a name, and its source."""

    summary: str
    source: str = ""


AUGMENTATIONS: dict[str, Choice] = {
    "flip": Choice("flip half of the pictures left to right"),
    "crop": Choice("shift each picture by up to an eighth of its size, filling with black"),
    "cutout": Choice("grey out a square of half the picture's size", "DeVries & Taylor 2017"),
}
OPTIMIZERS: dict[str, Choice] = {
    "sgd": Choice("with --momentum, like torch.optim.SGD", "Sutskever et al. 2013"),
    "adam": Choice("--momentum is β₁; weight decay is an L2 penalty", "Kingma & Ba 2015"),
    "adamw": Choice("Adam with decoupled weight decay", "Loshchilov & Hutter 2019"),
}
PRECISIONS: dict[str, str] = {
    "fp32": "32-bit floating point",
    "bf16": "bfloat16 where torch.autocast considers it safe; the weights stay fp32",
    "fp16": "the same with half precision and loss scaling",
}


def encodings() -> list[str]:
    """Return the names of encodings, with ``=`` where a share follows."""
    from fedcli.codecs import spellings  # codecs need numpy, which --help does without

    return [f"{name}=" if "=" in text else name for name, text in spellings().items()]
