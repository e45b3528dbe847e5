"""The image-classification data sets of torchvision, and how it stores each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Arguments = Mapping[str, Any]
_BY_FLAG: tuple[Arguments, Arguments] = ({"train": True}, {"train": False})
_BY_SPLIT: tuple[Arguments, Arguments] = ({"split": "train"}, {"split": "test"})
_WHOLE: tuple[Arguments] = ({},)


@dataclass(frozen=True)
class InTorchvision:
    """How torchvision stores a data set.

    ``parts`` has the arguments of the training and the test part, or of the only part; ``labels``
    is the attribute that holds the labels; ``needs`` is a package it requires.
    """

    name: str
    parts: tuple[Arguments, ...]
    labels: str
    channels: int = 3
    needs: str | None = None
    downloads: bool = True


SOURCES: dict[str, InTorchvision] = {
    "mnist": InTorchvision("MNIST", _BY_FLAG, "targets", channels=1),
    "fashion-mnist": InTorchvision("FashionMNIST", _BY_FLAG, "targets", channels=1),
    "kmnist": InTorchvision("KMNIST", _BY_FLAG, "targets", channels=1),
    "qmnist": InTorchvision("QMNIST", _BY_FLAG, "targets", channels=1),
    "emnist": InTorchvision(
        "EMNIST",
        ({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
        "targets",
        channels=1,
    ),
    "usps": InTorchvision("USPS", _BY_FLAG, "targets", channels=1),
    "semeion": InTorchvision("SEMEION", _WHOLE, "labels", channels=1),
    "cifar10": InTorchvision("CIFAR10", _BY_FLAG, "targets"),
    "cifar100": InTorchvision("CIFAR100", _BY_FLAG, "targets"),
    "svhn": InTorchvision("SVHN", _BY_SPLIT, "labels", needs="scipy"),
    "stl10": InTorchvision("STL10", _BY_SPLIT, "labels"),
    "gtsrb": InTorchvision("GTSRB", _BY_SPLIT, "_samples"),
    "eurosat": InTorchvision("EuroSAT", _WHOLE, "targets"),
    "pcam": InTorchvision("PCAM", _BY_SPLIT, "h5", needs="h5py"),
    "fer2013": InTorchvision(
        "FER2013", ({"split": "train"},), "_samples", channels=1, downloads=False
    ),
    "flowers102": InTorchvision("Flowers102", _BY_SPLIT, "_labels", needs="scipy"),
    "oxford-iiit-pet": InTorchvision(
        "OxfordIIITPet", ({"split": "trainval"}, {"split": "test"}), "_labels"
    ),
    "food101": InTorchvision("Food101", _BY_SPLIT, "_labels"),
    "dtd": InTorchvision("DTD", _BY_SPLIT, "_labels"),
    "country211": InTorchvision("Country211", _BY_SPLIT, "targets"),
    "fgvc-aircraft": InTorchvision(
        "FGVCAircraft", ({"split": "trainval"}, {"split": "test"}), "_labels"
    ),
    "stanford-cars": InTorchvision(
        "StanfordCars", _BY_SPLIT, "_samples", needs="scipy", downloads=False
    ),
    "rendered-sst2": InTorchvision("RenderedSST2", _BY_SPLIT, "_samples"),
    "imagenette": InTorchvision("Imagenette", ({"split": "train"}, {"split": "val"}), "_samples"),
    "imagenet": InTorchvision(
        "ImageNet", ({"split": "train"}, {"split": "val"}), "targets", downloads=False
    ),
    "caltech101": InTorchvision("Caltech101", _WHOLE, "y", needs="scipy"),
    "caltech256": InTorchvision("Caltech256", _WHOLE, "y"),
    "sun397": InTorchvision("SUN397", _WHOLE, "_labels"),
    "lfw": InTorchvision("LFWPeople", _WHOLE, "targets"),
}
