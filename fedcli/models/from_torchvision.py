"""The classifiers of ``torchvision.models``; the import is slow, so only who needs it pays."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision import models

from fedcli.errors import StorageError, UsageError

# Their auxiliary heads would make the output of training another than that of evaluation.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def names() -> list[str]:
    """List torchvision's classifiers."""
    found: list[str] = models.list_models(module=models)
    return found


def build_from_torchvision(name: str, num_classes: int) -> nn.Module:
    """Build a classifier whose last layer has ``num_classes`` outputs, with fresh weights."""
    module: nn.Module = models.get_model(
        name, weights=None, num_classes=num_classes, **_OPTIONS.get(name, {})
    )
    return module


def pretrained_weights(name: str) -> Mapping[str, Tensor]:
    """Fetch torchvision's default weights for a model, from its cache or the network.

    Raises ``UsageError`` when torchvision has none, ``StorageError`` when they cannot be fetched.
    """
    if name not in names():
        raise UsageError(f"--pretrained: torchvision has no weights for {name!r}")
    weights = models.get_model_weights(name).DEFAULT
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise StorageError(
            f"--pretrained: cannot fetch the weights of {name}: {error}",
            hint="fetch them on a machine with a network and give the file to --init-from",
        ) from None
    return state
