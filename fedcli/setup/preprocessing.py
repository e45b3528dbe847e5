"""What given weights expect of their inputs, where that can be known."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import UsageError
from fedcli.run.info import ModelInfo
from fedcli.run.normalization import IMAGENET, Constants

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Preprocessing:
    """Mean and std of pixels, and whether the network renormalises them.

    ``constants`` is None where nothing is known. ``because`` says what it was concluded from.
    """

    constants: Constants | None = None
    transform_input: bool = False
    because: str | None = None


def preprocessing_of(
    model: ModelInfo, init_from: Path | None, *, pretrained: bool
) -> Preprocessing:
    """Return what the weights of a new run expect.

    torchvision's weights are known by ``pretrained``, or by a last layer of ImageNet's 1000 classes
    in their file. Raises ``UsageError`` if a network has two ways to read its inputs and the file
    does not tell which, and what ``read_weight_file`` raises.
    """
    if pretrained:
        return _of_torchvision(model, "--pretrained")
    if init_from is None or model.is_users_own or model.name in ("cnn", "linear"):
        return Preprocessing(transform_input=bool(model.transform_input))
    from fedcli.models import TRANSFORMS_INPUT
    from fedcli.models.state_dicts import outputs_in
    from fedcli.models.weight_files import read_weight_file

    if _IMAGENET_CLASSES in outputs_in(read_weight_file(init_from)):
        return _of_torchvision(
            model, "their 1000 classes are ImageNet's, as in torchvision's files"
        )
    if model.name in TRANSFORMS_INPUT and model.transform_input is None:
        raise UsageError(
            f"--init-from {init_from}: does not tell whether these weights of {model.name}"
            " renormalise their inputs",
            hint="add --transform-input if they were trained from torchvision's weights, or else"
            " --no-transform-input",
        )
    return Preprocessing(transform_input=bool(model.transform_input))


def _of_torchvision(model: ModelInfo, because: str) -> Preprocessing:
    from fedcli.models import TRANSFORMS_INPUT, is_from_torchvision

    transforms = model.name in TRANSFORMS_INPUT
    if model.transform_input is not None:
        transforms = model.transform_input
    constants: Constants | None = IMAGENET
    if is_from_torchvision(model):
        from fedcli.models.from_torchvision import input_constants

        constants = input_constants(model.name) or IMAGENET
    return Preprocessing(constants, transforms, because)
