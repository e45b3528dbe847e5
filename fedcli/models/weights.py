"""Convert weights between modules, arrays and files, and create those of round 0."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fedcli.errors import BadInputError, UsageError
from fedcli.formats.dtypes import BFLOAT16, Array
from fedcli.formats.metadata import Role
from fedcli.models import Shape, build, check_model, is_from_torchvision, try_model
from fedcli.models.generators import seeded_generators
from fedcli.models.start_weights import StartReport, copy_start_weights
from fedcli.models.state_dicts import StateDict, find_state_dict
from fedcli.models.ties import ties_of
from fedcli.models.trial import TRIED, Trial, try_training
from fedcli.models.weight_files import read_weight_file
from fedcli.run.info import ModelInfo


@dataclass(frozen=True)
class InitialModel:
    """The network that a run starts from; the rest is by ``state_dict`` name.

    ``tied`` maps second names of a tensor to its first one. ``report`` says what became of given
    weights; it is None if all are drawn from the seed.
    """

    module: nn.Module
    tensors: dict[str, Array]
    roles: dict[str, Role]
    tied: dict[str, str]
    report: StartReport | None = None


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

    Given weights must match in every tensor except the last layer and auxiliary heads, which are
    reinitialised for another number of classes. LoRA adapters are always new. Raises
    ``BadInputError``, and ``UsageError``, also if the model does not map one example to
    ``num_classes`` numbers.
    """
    check_model(model, shape)
    if init_from is not None and pretrained:
        raise UsageError("--init-from and --pretrained exclude each other")
    module = build(model, num_classes, shape, own=own_factory, seed=seed)
    trial = try_model(module, model, shape)
    _check_output(trial, model, num_classes, shape)
    if model.is_users_own:
        again = build(model, num_classes, shape, own=own_factory, seed=seed)
        with seeded_generators(seed):
            where = f"--model {model.name}: an example of shape {list(shape)}"
            try_training(again, shape, num_classes, where)
    report = None
    if pretrained:
        from fedcli.models.from_torchvision import pretrained_weights

        origin = f"--pretrained {model.name}"
        weights = pretrained_weights(model.name)
        report = copy_start_weights(module, weights, trial.last_layer, origin)
    elif init_from is not None:
        origin = f"--init-from {init_from}"
        weights = _weights_in(init_from, module, model, trial.last_layer)
        report = copy_start_weights(module, weights, trial.last_layer, origin)
    return InitialModel(module, to_arrays(module), roles_of(module), ties_of(module), report)


def _weights_in(path: Path, module: nn.Module, model: ModelInfo, last_layer: str) -> StateDict:
    """Find the weights of a network in a file, under the names that its layers have now."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found = find_state_dict(read_weight_file(path), shapes, f"--init-from {path}")
    named = all(name in found.tensors for name in shapes if not name.startswith(last_layer))
    if named or not is_from_torchvision(model):
        return found
    from fedcli.models.from_torchvision import with_current_names

    head = found.tensors.get(f"{last_layer}.weight")
    classes = 1 if head is None or not head.dim() else len(head)
    return with_current_names(model.name, found, classes)


def _check_output(trial: Trial, model: ModelInfo, num_classes: int, shape: Shape) -> None:
    output = trial.output
    found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != [TRIED, num_classes]:
        raise UsageError(
            f"--model {model.name}: an example of shape {list(shape)}: expected an output of shape"
            f" {[TRIED, num_classes]}, found {found}"
        )
