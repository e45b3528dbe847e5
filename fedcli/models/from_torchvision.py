"""The classifiers of ``torchvision.models``, whose import is slow and so only done on demand."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision import models

from fedcli.errors import StorageError, UsageError

# With auxiliary heads, the output in training would differ from the one in evaluation.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def names() -> list[str]:
    """List torchvision's classifiers."""
    found: list[str] = models.list_models(module=models)
    return found


def build_from_torchvision(name: str, num_classes: int) -> nn.Module:
    """Build a classifier with ``num_classes`` outputs and random initial weights."""
    module: nn.Module = models.get_model(
        name, weights=None, num_classes=num_classes, **_OPTIONS.get(name, {})
    )
    return module


def pretrained_weights(name: str) -> Mapping[str, Tensor]:
    """Fetch torchvision's default weights for a model, from its cache or the network.

    Raises ``UsageError`` if torchvision has none, ``StorageError`` if they cannot be fetched.
    """
    if name not in names():
        raise UsageError(f"--pretrained: torchvision has no weights for {name!r}")
    weights = models.get_model_weights(name).DEFAULT
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise StorageError(
            f"--pretrained: cannot fetch the weights of {name}: {error}",
            hint="fetch them on a machine with internet access and pass the file to --init-from",
        ) from None
    return state
