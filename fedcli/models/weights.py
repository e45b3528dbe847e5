"""Convert weights between modules, arrays and files, and create those of round 0."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedcli.errors import BadInputError, NotReadyError, UsageError
from fedcli.formats.dtypes import BFLOAT16, Array
from fedcli.formats.metadata import Role
from fedcli.models import Shape, build, check_model, try_model
from fedcli.models.lora import adapted, without_adapters
from fedcli.models.ties import ties_of
from fedcli.models.trial import Trial
from fedcli.run.info import ModelInfo


@dataclass(frozen=True)
class InitialModel:
    """The network that a run starts from; the rest is by ``state_dict`` name.

    ``tied`` maps second names of a tensor to its first one.
    """

    module: nn.Module
    tensors: dict[str, Array]
    roles: dict[str, Role]
    tied: dict[str, str]


def roles_of(module: nn.Module) -> dict[str, Role]:
    """Return the role of every tensor that is not a parameter."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {
        name: Role.BUFFER if tensor.is_floating_point() else Role.COUNTER
        for name, tensor in module.state_dict().items()
        if name not in parameters
    }


def to_arrays(module: nn.Module) -> dict[str, Array]:
    """Copy a module's state to numpy arrays; bfloat16 becomes ``BFLOAT16``."""
    return {name: to_array(tensor) for name, tensor in module.state_dict().items()}


def to_array(tensor: Tensor) -> Array:
    """Copy a tensor to a numpy array."""
    tensor = tensor.detach().cpu().contiguous().clone()
    if tensor.dtype == torch.bfloat16:
        array: Array = tensor.view(torch.uint16).numpy()
        return array.view(BFLOAT16)
    return tensor.numpy()


def load_arrays(module: nn.Module, tensors: Mapping[str, Array], path: Path) -> None:
    """Copy arrays into a module. Raises ``BadInputError`` for a tensor that does not fit."""
    state = module.state_dict()
    for name, tensor in state.items():
        if name not in tensors:
            raise BadInputError(
                f"tensor {name!r} is missing, but the run's model has it", path=path
            )
        if tuple(tensor.shape) != tensors[name].shape:
            raise BadInputError(
                f"tensor {name!r}: expected shape {list(tensor.shape)},"
                f" found {list(tensors[name].shape)}",
                path=path,
            )
    extra = sorted(tensors.keys() - state.keys())
    if extra:
        raise BadInputError(f"tensor {extra[0]!r} is not in the run's model", path=path)
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(_to_tensor(tensors[name]))


def to_tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """Return arrays as CPU tensors that share their memory."""
    return {name: _to_tensor(array) for name, array in arrays.items()}


def _to_tensor(array: Array) -> Tensor:
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view("<u2")).view(torch.bfloat16)
    return torch.from_numpy(array)


def initial_tensors(
    model: ModelInfo,
    num_classes: int,
    shape: Shape,
    seed: int,
    *,
    init_from: Path | None = None,
    pretrained: bool = False,
    own_factory: str | None = None,
) -> InitialModel:
    """Return the weights of round 0, drawn from the seed or copied from given weights.

    Given weights must match in every tensor except the last layer, which is reinitialised for
    another number of classes. LoRA adapters are always new. Raises ``BadInputError``, and
    ``UsageError``, also if the model does not map one example to ``num_classes`` numbers.
    """
    check_model(model, shape)
    if init_from is not None and pretrained:
        raise UsageError("--init-from and --pretrained exclude each other")
    module = build(model, num_classes, shape, own=own_factory, seed=seed)
    trial = try_model(module, model, shape)
    _check_output(trial, model, num_classes, shape)
    if init_from is not None:
        _copy_weights(module, read_weights(init_from), trial.last_layer, str(init_from))
    if pretrained:
        from fedcli.models.from_torchvision import pretrained_weights

        weights = pretrained_weights(model.name)
        _copy_weights(module, weights, trial.last_layer, f"--pretrained {model.name}")
    return InitialModel(module, to_arrays(module), roles_of(module), ties_of(module))


def _check_output(trial: Trial, model: ModelInfo, num_classes: int, shape: Shape) -> None:
    output = trial.output
    found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != [1, num_classes]:
        raise UsageError(
            f"--model {model.name}: an example of shape {list(shape)}: expected an output of shape"
            f" {[1, num_classes]}, found {found}"
        )


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Read a state_dict from a safetensors file, or from a .pth file without running its code.

    Raises ``NotReadyError`` if there is no such file, ``BadInputError`` if it holds no state_dict.
    """
    if not path.is_file():
        raise NotReadyError(f"--init-from {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(f"--init-from {path}: is not a file of weights: {reason}") from None
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise BadInputError(f"--init-from {path}: expected a state_dict of tensors")
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def _copy_weights(
    module: nn.Module, weights: Mapping[str, Tensor], last_layer: str, origin: str
) -> None:
    """Copy weights into a module, except a last layer of another size and adapters."""
    if layers := adapted(weights):
        raise BadInputError(
            f"{origin}: layer {layers[0]!r} has a LoRA adapter",
            hint="merge the adapters into the weights first: fedcli.merged",
        )
    for name, tensor in without_adapters(module.state_dict()).items():
        given = weights.get(name)
        if given is not None and given.shape == tensor.shape:
            with torch.no_grad():
                tensor.copy_(given)
        elif name.rpartition(".")[0] != last_layer and not name.endswith("num_batches_tracked"):
            found = "no such tensor" if given is None else f"shape {list(given.shape)}"
            raise BadInputError(
                f"{origin}: tensor {name!r}: expected shape {list(tensor.shape)}, found {found}"
            )
