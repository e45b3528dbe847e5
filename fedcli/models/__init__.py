"""Networks by name: built-in ones, torchvision's classifiers, and a user's own."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fedcli.errors import UsageError
from fedcli.models.generators import seeded_generators
from fedcli.models.lora import add_adapters
from fedcli.models.resnet import ResNet18
from fedcli.models.small import CNN, Linear
from fedcli.models.trial import TRIED, Trial, try_out
from fedcli.options import unknown_value
from fedcli.randomness import stream_seed
from fedcli.run.info import ModelInfo
from fedcli.spelling import did_you_mean
from fedcli.user_code import SHOW_WHERE, load_attribute, with_place

Shape = tuple[int, ...]
Factory = Callable[[ModelInfo, int, Shape], nn.Module]

# torchvision's networks that renormalise their inputs for the weights that it publishes
TRANSFORMS_INPUT = ("googlenet", "inception_v3")


def _check_images(model: ModelInfo, shape: Shape) -> None:
    if len(shape) != 3:
        raise UsageError(
            f"--model {model.name}: needs pictures (C, H, W), found examples of shape {shape};"
            " --model linear takes any shape"
        )


def _resnet18(model: ModelInfo, num_classes: int, shape: Shape) -> nn.Module:
    _check_images(model, shape)
    return ResNet18(num_classes, model.stem, model.norm)


def _cnn(model: ModelInfo, num_classes: int, shape: Shape) -> nn.Module:
    _check_images(model, shape)
    return CNN(num_classes, shape)


def _linear(model: ModelInfo, num_classes: int, shape: Shape) -> nn.Module:
    return Linear(num_classes, shape)


MODELS: dict[str, Factory] = {"resnet18": _resnet18, "cnn": _cnn, "linear": _linear}


def check_model(model: ModelInfo, shape: Shape) -> None:
    """Raise ``UsageError`` if the network does not exist or does not take examples of ``shape``."""
    if is_from_torchvision(model):
        from fedcli.models.from_torchvision import names

        if model.name not in names():
            more = ", any classifier of torchvision.models, or package.module:factory"
            error = unknown_value("--model", model.name, MODELS, more)
            near = did_you_mean(model.name, (*MODELS, *names()))
            raise error.amended(hint=_from_file(Path(model.name)) or near)
    if model.name != "resnet18" and (model.stem, model.norm) != ("imagenet", "batch"):
        raise UsageError(f"--stem and --norm belong to resnet18, not to {model.name}")
    if model.transform_input and model.name not in TRANSFORMS_INPUT:
        raise UsageError(f"--transform-input: belongs to {' and '.join(TRANSFORMS_INPUT)}")
    if takes_rgb(model):
        _check_images(model, shape)
        if shape[0] not in (1, 3):
            raise UsageError(
                f"--model {model.name}: needs grey or RGB pictures, found {shape[0]} channels"
            )


def _from_file(path: Path) -> str | None:
    """Return how to start from a file of weights that is there."""
    return f"a network by its name, and --init-from {path}" if path.is_file() else None


def is_from_torchvision(model: ModelInfo) -> bool:
    """Return whether the name is one of ``torchvision.models``, if it exists at all."""
    return model.name not in MODELS and not model.is_users_own


def takes_rgb(model: ModelInfo) -> bool:
    """Return whether this network takes grey images as RGB, as torchvision's networks do."""
    return model.name not in ("cnn", "linear") and not model.is_users_own


def build(
    model: ModelInfo, num_classes: int, shape: Shape, *, own: str | None, seed: int
) -> nn.Module:
    """Build a network with initial weights drawn from the run's ``seed``.

    Whatever else a user's factory draws is the same wherever the run's network is built.
    ``shape`` is that of one example. ``own`` is the ``package.module:factory`` that the user of
    this machine gave; a name in ``run.json`` is only compared with it, never run. The factory is
    called as ``factory(num_classes=...)``. LoRA adapters are drawn last, so that all other weights
    are the same with and without them. Raises ``UsageError``.
    """
    with seeded_generators(stream_seed(seed, "model")):
        module = _build_named(model, num_classes, shape, own)
        if any(map(is_lazy, module.parameters())):
            try_model(module, model, shape)  # gives them their shapes
        if model.lora is not None:
            add_adapters(module, try_model(module, model, shape), model.lora, model.lora_scale)
        return module


def try_model(module: nn.Module, model: ModelInfo, shape: Shape) -> Trial:
    """Pass two examples of zeros through a network built by ``build``.

    Raises ``UsageError`` if the network fails.
    """
    examples = torch.zeros(TRIED, *shape)
    if takes_rgb(model):
        examples = examples.expand(-1, 3, -1, -1)
    return try_out(module, examples, f"--model {model.name}: an example of shape {list(shape)}")


def _build_named(model: ModelInfo, num_classes: int, shape: Shape, own: str | None) -> nn.Module:
    if model.is_users_own:
        return _users_own(model, num_classes, own)
    if own is not None and own != model.name:
        raise UsageError(f"--model {own}: this run's model is {model.name}")
    if model.name in MODELS:
        return MODELS[model.name](model, num_classes, shape)
    from fedcli.models.from_torchvision import build_from_torchvision

    transforms = bool(model.transform_input)
    return build_from_torchvision(model.name, num_classes, transform_input=transforms)


def _users_own(model: ModelInfo, num_classes: int, own: str | None) -> nn.Module:
    if own is None:
        raise UsageError(
            f"--model: this run's model is the user's own {model.name!r}; its code is only run"
            " if you request it",
            hint=f"add --model {model.name}, or set FEDCLI_MODEL",
        )
    if own != model.name:
        raise UsageError(f"--model {own}: this run's model is {model.name}")
    factory = load_attribute(own, "--model")
    try:
        module = factory(num_classes=num_classes)
    except Exception as error:
        raise UsageError(
            f"--model {own}: cannot be called with num_classes={num_classes}: {with_place(error)}",
            hint=SHOW_WHERE,
        ) from error
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"--model {own}: expected a torch.nn.Module, found {type(module).__name__}"
        )
    return module
