"""The classifiers of ``torchvision.models``, whose import is slow and so only done on demand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from fedcli.errors import BadInputError, StorageError, UsageError, is_memory_error
from fedcli.models.state_dicts import StateDict
from fedcli.user_code import in_one_line

# With auxiliary heads, the output in training would differ from the one in evaluation.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def names() -> list[str]:
    """List torchvision's classifiers."""
    found: list[str] = models.list_models(module=models)
    return found


def build_from_torchvision(
    name: str, num_classes: int, *, transform_input: bool = False
) -> nn.Module:
    """Build a classifier with ``num_classes`` outputs and random initial weights.

    With ``transform_input``, it renormalises its inputs as torchvision's weights expect them.
    Raises ``BadInputError`` for an unknown name.
    """
    if name not in names():  # options are checked before; this one is from run.json
        raise BadInputError(f"run.json: this torchvision has no model {name!r}")
    options = dict(_OPTIONS.get(name, {}))
    if transform_input:
        options["transform_input"] = True
    module: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return module


def input_constants(name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std of the pixels that torchvision's weights expect, None without weights."""
    if name not in names():
        return None
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    return tuple(transforms.mean), tuple(transforms.std)


def pretrained_weights(name: str) -> StateDict:
    """Let torchvision load its default weights for a model, from its cache or the network.

    Raises ``UsageError`` if torchvision has none, ``StorageError`` if they cannot be loaded.
    """
    if name not in names():
        raise UsageError(f"--pretrained: torchvision has no weights for {name!r}")
    weights = models.get_model_weights(name).DEFAULT
    try:
        module = models.get_model(name, weights=weights, progress=False)
    except OSError as error:
        raise StorageError(
            f"--pretrained: cannot fetch the weights of {name}: {error}",
            hint="fetch them on a machine with internet access and pass the file to --init-from",
        ) from None
    except Exception as error:  # torch's, of a file in its cache that is damaged
        if is_memory_error(error):
            raise
        raise StorageError(
            f"--pretrained: cannot load the weights of {name}: {in_one_line(error)}",
            hint=f"remove the file from {torch.hub.get_dir()}/checkpoints and repeat the command",
        ) from None
    return StateDict(module.state_dict())


def with_current_names(name: str, given: StateDict, num_classes: int) -> StateDict:
    """Return weights of a classifier of torchvision under the names of its present layers.

    torchvision's loaders rename the tensors of its older files. Weights that they do not take stay
    as they are. ``num_classes`` is the number of outputs in ``given``.
    """
    if name.startswith("densenet"):
        return replace(given, tensors=_renamed_by_densenet(given.tensors))
    with torch.device("meta"):
        module = build_from_torchvision(name, num_classes).requires_grad_(False)
    for versions in (given.versions, _versions(module)):
        state: Any = _WithVersions(given.tensors)
        state._metadata = versions
        try:
            absent = module.load_state_dict(state, strict=False, assign=True)
        except (RuntimeError, ValueError):  # another shape, or a version that it does not know
            continue
        kept = {k: v for k, v in module.state_dict().items() if k not in absent.missing_keys}
        left = {key: given.tensors[key] for key in absent.unexpected_keys}
        return replace(given, tensors={**kept, **left})
    return given


class _WithVersions(dict[str, Tensor]):
    """A state_dict that can have torch's ``_metadata``."""


def _versions(module: nn.Module) -> Any:
    return getattr(module.state_dict(), "_metadata", {})


class _Renamed:
    """Stands in for the weights, and for the network, that DenseNet's loader is given."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    def get_state_dict(self, **_: object) -> dict[str, Tensor]:
        return self.tensors

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors


def _renamed_by_densenet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: Any = _Renamed(tensors)
    models.densenet._load_state_dict(found, found, progress=False)
    names: dict[str, Tensor] = found.tensors
    return names
