"""One client's local training in a round: from the global model to the tensors sent and kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedcli.algorithms import proximal
from fedcli.algorithms.base import RoundStart, Term
from fedcli.client.tensors import Tensors
from fedcli.errors import CheckpointError, UsageError
from fedcli.formats.dtypes import Array
from fedcli.models.generators import seeded_generators
from fedcli.models.weights import to_array, to_arrays, to_tensors
from fedcli.plan import TrainPlan
from fedcli.randomness import stream_seed
from fedcli.run.client_state import LOCAL, NOTHING
from fedcli.security.secret_streams import SecretStreams
from fedcli.training.augmentation import Normalize
from fedcli.training.batches import Source, in_order
from fedcli.training.devices import Portions
from fedcli.training.forward import mean_loss
from fedcli.training.gradients import Gradients
from fedcli.training.loop import Epoch, Observer, Stage, Task, Trainer, epochs_of, set_mode
from fedcli.training.private import PoissonBatches, PrivateGradients


@dataclass(frozen=True)
class Assignment:
    """A client's task: train ``module``, which holds the global model, on ``source``.

    ``kept`` is the state of the client's algorithm, ``local`` its own layers and ``server`` the
    slot of the server's state, all by tensor name; ``resume`` is the content and the path of a
    training checkpoint. ``build`` returns a new network of the same kind. Private training draws
    from ``streams``.
    """

    module: nn.Module
    build: Callable[[], nn.Module]
    source: Source
    plan: TrainPlan
    lr: float
    tensors: Tensors
    normalize: Normalize
    seed: int
    device: torch.device
    kept: Mapping[str, Array] = field(default_factory=lambda: NOTHING)
    local: Mapping[str, Array] = field(default_factory=lambda: NOTHING)
    server: Mapping[str, Array] = field(default_factory=lambda: NOTHING)
    micro_batch: int | None = None
    compile: bool = False
    streams: SecretStreams | None = None
    resume: tuple[Mapping[str, Tensor], Mapping[str, Any], Path] | None = None

    @property
    def poisson(self) -> PoissonBatches | None:
        """The batches of private training."""
        return None if self.streams is None else PoissonBatches(self.streams, self.plan.batch_size)


@dataclass(frozen=True)
class Trained:
    """The result: tensors to send, tensors to keep by ``<slot>/<name>``, and figures.

    ``initial_loss`` is None unless the plan requests it; ``micro_batch`` is None if every batch
    fitted into memory.
    """

    sent: dict[str, Array]
    kept: dict[str, Array]
    epochs: list[Epoch]
    personal_epochs: list[Epoch]
    initial_loss: float | None
    micro_batch: int | None


def train_locally(
    given: Assignment, observer: Observer, on_shrink: Callable[[int], None]
) -> Trained:
    """Train a client's model, or models, to the end of the round.

    ``on_shrink`` is called with a smaller micro-batch. Raises what ``Trainer.run`` raises.
    """
    with seeded_generators(stream_seed(given.seed, "forward"), given.device):
        return _train(given, observer, on_shrink)


def _train(given: Assignment, observer: Observer, on_shrink: Callable[[int], None]) -> Trained:
    module, device = given.module, given.device
    module.to(device).to(memory_format=torch.channels_last)
    own = {name: value for name, value in given.local.items() if name in given.tensors.local}
    state = module.state_dict()
    with torch.no_grad():
        for name, value in own.items():
            state[name].copy_(to_tensors({name: value})[name])
    initial_loss = None
    if given.plan.initial_loss:
        initial_loss = mean_loss(
            module,
            given.source,
            normalize=given.normalize,
            batch=Portions(given.micro_batch or given.plan.batch_size, device),
        )
    trainable = _trainable(module, given.tensors)
    _check_trainable(given, trainable)
    gradients = _gradients(given, on_shrink)
    terms = terms_of(given.plan, _start(given, trainable, gradients))
    task = Task(
        given.source, given.plan, given.lr, given.normalize, given.seed, device, given.poisson
    )
    stages = _stages(given, trainable, terms)
    trainer = Trainer(task, stages, gradients, observer)
    if given.resume is not None:
        tensors, facts, path = given.resume
        try:
            trainer.restore(tensors, facts)
        except ValueError as error:
            raise CheckpointError(
                f"{error}", hint="train-client --force restarts this training", path=path
            ) from None
    trainer.run()
    return _trained(given, trainer, terms, initial_loss)


def _gradients(given: Assignment, on_shrink: Callable[[int], None]) -> Gradients:
    settings = (given.plan, given.device, given.micro_batch, on_shrink)
    if given.streams is not None:
        return PrivateGradients(*settings, given.streams)
    return Gradients(*settings, compiled=given.compile)


def _trainable(module: nn.Module, tensors: Tensors) -> dict[str, nn.Parameter]:
    """Return the parameters to train, by name, and turn off the gradients of frozen ones."""
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name in tensors.frozen:
            parameter.requires_grad_(False)
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def _check_trainable(given: Assignment, trainable: Mapping[str, nn.Parameter]) -> None:
    """Raise ``UsageError`` for a stage that has nothing to train."""
    local = given.tensors.local
    if given.plan.head_epochs and not local & trainable.keys():
        raise UsageError(
            "--head-epochs: trains only the layers of --local-layers, which have no parameter to"
            " train"
        )
    if not (trainable.keys() - local if given.plan.head_epochs else trainable):
        raise UsageError(
            "--model: has no parameter left to train; all of them are frozen or local",
            hint="see --freeze and --local-layers, and requires_grad in a model of your own",
        )


def _start(
    given: Assignment, trainable: Mapping[str, nn.Parameter], gradients: Gradients
) -> RoundStart:
    shared = {name: p for name, p in trainable.items() if name not in given.tensors.local}

    def full_gradient() -> dict[str, Tensor]:
        set_mode(given.module, _frozen_layers(given.module, given.tensors.frozen))
        found = gradients.of_all(
            given.module,
            list(shared.values()),
            given.source,
            in_order(len(given.source), given.plan.batch_size),
            given.normalize,
            seed=stream_seed(given.seed, "layers", "gradient"),
        )
        return dict(zip(shared, found, strict=True))

    kept, server = _to_device(given.device, given.kept), _to_device(given.device, given.server)
    return RoundStart(
        given.lr,
        given.plan.momentum,
        given.plan.proximal or 0.0,
        given.module,
        shared,
        kept,
        server,
        full_gradient,
        lambda: _copy_of(given),
    )


def _copy_of(given: Assignment) -> nn.Module:
    """Return a copy of the module, built anew: not every network can be copied with its tensors."""
    copy = given.build().to(given.device).to(memory_format=torch.channels_last)
    copy.load_state_dict(given.module.state_dict())
    _trainable(copy, given.tensors)
    return copy


def terms_of(plan: TrainPlan, start: RoundStart) -> list[Term]:
    """Return the terms of the plan's algorithm, and the plan's proximal term."""
    more = [proximal(start, plan.proximal)] if plan.proximal else []
    return [plan.local.begin(start), *more]


def _to_device(device: torch.device, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in to_tensors(arrays).items()}


def _stages(
    given: Assignment, trainable: Mapping[str, nn.Parameter], terms: list[Term]
) -> list[Stage]:
    plan, module = given.plan, given.module
    epochs = epochs_of(plan, len(given.source))
    frozen = _frozen_layers(module, given.tensors.frozen)
    shared, stages = list(trainable.values()), []
    if plan.head_epochs:
        head = [p for name, p in trainable.items() if name in given.tensors.local]
        shared = [p for name, p in trainable.items() if name not in given.tensors.local]
        stages.append(Stage("head", module, head, plan.head_epochs, frozen=frozen))
    stages.append(Stage("", module, shared, epochs, plan.steps, terms, frozen))
    for term in terms:
        if personal := term.personal():
            mine = _trainable(personal.module, given.tensors).values()
            layers = _frozen_layers(personal.module, given.tensors.frozen)
            stages.append(
                Stage(
                    "personal",
                    personal.module,
                    list(mine),
                    epochs,
                    plan.steps,
                    [personal.term],
                    layers,
                )
            )
    return stages


def _frozen_layers(module: nn.Module, frozen: frozenset[str]) -> list[nn.Module]:
    """Return the layers whose tensors are all frozen; they run in evaluation mode."""
    found = []
    for path, layer in module.named_modules():
        own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        names = {f"{path}.{name}" if path else name for name, _ in own}
        if names and names <= frozen:
            found.append(layer)
    return found


def _trained(
    given: Assignment, trainer: Trainer, terms: list[Term], initial_loss: float | None
) -> Trained:
    figures = {
        stage.name: epochs for stage, epochs in zip(trainer.stages, trainer.epochs, strict=True)
    }
    index = [stage.name for stage in trainer.stages].index("")
    with torch.no_grad():
        left = [term.finish(trainer.steps[index]) for term in terms]
    whole, tensors = to_arrays(given.module), given.tensors
    sent = {n: v for n, v in whole.items() if n not in tensors.withheld}
    kept = {f"{LOCAL}/{name}": whole[name] for name in sorted(tensors.local)}
    for one in left:
        sent |= {name: to_array(value) for name, value in one.sent.items()}
        slot = given.plan.local.keeps
        kept |= {f"{slot}/{name}": to_array(value) for name, value in one.state.items()}
    return Trained(
        sent,
        kept,
        figures.get("head", []) + figures[""],
        figures.get("personal", []),
        initial_loss,
        trainer.gradients.micro_batch,
    )
