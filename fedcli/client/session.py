"""The session: what all clients of one call of ``train_client`` share."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fedcli.client.tensors import Tensors, with_local_layers
from fedcli.errors import BadInputError, MissingDependencyError, UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.dtypes import Array
from fedcli.formats.metadata import Kind, Role
from fedcli.formats.safetensors import Layout
from fedcli.formats.training_record import TrainingRecord
from fedcli.models import build
from fedcli.options import check_seed
from fedcli.plan import TrainPlan
from fedcli.plan.execution import Execution
from fedcli.plan.rule import check_encoding
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.client_state import StateStore
from fedcli.run.ledgers import LedgerStore
from fedcli.run.round import Round
from fedcli.security.global_model import check_global_model
from fedcli.security.keys import SigningKey
from fedcli.security.noise_key import NoiseKey, read_noise_key
from fedcli.training.devices import choose_device, limit_memory, set_threads


@dataclass(frozen=True)
class BaseModel:
    """The global model that a round starts from; layout and roles are by tensor name."""

    path: Path
    layout: Layout
    roles: Mapping[str, Role]
    tied: Mapping[str, str] | None
    sha256: str

    def read(self) -> dict[str, Array]:
        """Read its values; kept, they would take as much memory as the gradients.

        Raises ``BadInputError`` for a file that has changed, and what ``Checkpoint`` does.
        """
        with Checkpoint(self.path, Kind.GLOBAL) as model:
            values, sha256 = model.tensors_and_digest()
        if sha256 != self.sha256:
            raise BadInputError(
                "was changed or replaced while it was used; repeat the command", path=self.path
            )
        return values


@dataclass(frozen=True)
class ServerSlot:
    """The part of the server state that clients read, by tensor name, and its file's SHA-256."""

    values: Mapping[str, Array]
    sha256: str | None = None


@dataclass(frozen=True)
class Session:
    """Everything that is the same for all clients of one call.

    ``drawn`` says that the starting model of the run was drawn here, and is the run's.
    """

    run: Run
    round: Round
    plan: TrainPlan
    seed: int
    device: torch.device
    threads: int
    execution: Execution
    own: str | None
    force: bool
    key: SigningKey | None
    noise: NoiseKey | None
    base: BaseModel
    server: ServerSlot
    tensors: Tensors
    states: StateStore
    progress: Progress
    drawn: bool = False

    @property
    def lr(self) -> float:
        """The learning rate of this round."""
        return self.plan.learning_rate(self.round.number)

    @property
    def training(self) -> TrainingRecord:
        """The hyper-parameters in use, without those that are off, and the device and threads."""
        facts = {
            **self.plan.recorded(self.round.number),
            "micro_batch": self.execution.micro_batch,
            "compile": self.execution.compile,
            "server_state": self.server.sha256,
            "device": self.device.type,
            "threads": self.threads,
            "noise_key": None if self.noise is None else self.noise.commitment,
        }
        return TrainingRecord().plus(facts)

    @property
    def undecided(self) -> frozenset[str]:
        """The names of the training facts that the machine chose, not the user.

        They cause no conflict with an existing update.
        """
        facts = {
            "device": self.execution.device == "auto",
            "threads": self.execution.threads is None,
            "micro_batch": self.execution.micro_batch is None,
        }
        return frozenset(name for name, undecided in facts.items() if undecided)

    @property
    def trusts_kept_files(self) -> bool:
        """Whether no one else can have changed a client's kept files, or nothing is signed.

        Others can change files in the run, and the client would sign what follows from them. In a
        simulation there are no others.
        """
        alone = self.key is None or self.run.has_keys
        return alone or self.execution.state is not None

    @property
    def withholds(self) -> bool:
        """Whether clients publish nothing of their data that is not masked or covered by noise."""
        return replace(self.run.info.plan, train=self.plan).withholds

    @property
    def keeps_state(self) -> bool:
        """Whether clients keep something from round to round."""
        row, layers, feedback = self.plan.local, self.tensors.local, self.plan.feedback
        return row.keeps is not None or bool(layers) or bool(feedback)

    @property
    def ledgers(self) -> LedgerStore:
        """Where clients keep what they have spent of their privacy."""
        return LedgerStore(self.run, self.execution.state)


def open_session(
    run: Run,
    round_: Round,
    options: Mapping[str, Any],
    execution: Execution,
    *,
    seed: int | None,
    own_model: str | None,
    force: bool,
    key: SigningKey | None,
    noise_key: Path | None,
    progress: Progress | None,
) -> Session:
    """Read the base model and the server state of a round, and resolve the plan.

    Raises ``UsageError``, ``NotReadyError``, ``BadInputError``, ``CheckpointError`` and
    ``MissingDependencyError``.
    """
    plan = run.info.plan.train.with_options(options).resolved()
    if plan.augment and len(run.info.dataset.shape) != 3:
        raise UsageError("--augment: needs pictures, which this run's examples are not")
    check_encoding(plan, run.info.plan.aggregate)
    noise = _noise_key(run, plan, noise_key)
    if execution.compile:
        _check_compile(plan)
    device = choose_device(execution.device)
    limit_memory(device, execution.gpu_memory_fraction)
    if plan.local.keeps_layers:
        plan = with_local_layers(plan, _network(run, own_model))
    plan.learning_rate(round_.number)  # refuses an impossible rate before anything is read
    server = _server_slot(run, round_.number, plan)
    base = _base_model(run, run.round(round_.number - 1))
    return Session(
        run=run,
        round=round_,
        plan=plan,
        seed=run.info.seed if seed is None else check_seed(seed),
        device=device,
        threads=set_threads(execution.threads),
        execution=execution,
        own=own_model,
        force=force,
        key=key,
        noise=noise,
        base=base,
        server=server,
        tensors=Tensors.of(plan, base.layout, base.roles, base.tied or {}),
        states=StateStore(run, execution.state),
        progress=progress or Silence(),
    )


def _noise_key(run: Run, plan: TrainPlan, path: Path | None) -> NoiseKey | None:
    if plan.dp is None and path is not None:
        raise UsageError("--noise-key: has no use without --dp", hint="leave --noise-key out")
    if plan.dp is None:
        return None
    if path is None:
        raise UsageError(
            f"--dp {plan.dp}: draws batches and noise from a secret key; name it with --noise-key",
            hint="fedcli keygen --noise FILE makes one",
        )
    return read_noise_key(path, outside=run.root)


def _network(run: Run, own: str | None) -> torch.nn.Module:
    info = run.info
    classes = len(info.dataset.classes)
    return build(info.model, classes, info.dataset.shape, own=own, seed=info.seed)


def _base_model(run: Run, before: Round) -> BaseModel:
    with Checkpoint(before.global_model, Kind.GLOBAL) as model:
        sha256, found = model.digest(), model.metadata
        check_global_model(run, before, found, sha256)
        return BaseModel(model.path, model.layout, found.roles, found.tied, sha256)


def _server_slot(run: Run, number: int, plan: TrainPlan) -> ServerSlot:
    if plan.local.reads is None:
        return ServerSlot({})
    from fedcli.aggregation.server_state import read_slot

    return ServerSlot(*read_slot(run, number, plan.local.reads))


def _check_compile(plan: TrainPlan) -> None:
    if plan.dp is not None:
        raise UsageError(
            f"--compile: --dp {plan.dp} reads layers inside the network, which compiling hides"
        )
    if plan.local.watches_layers:
        raise UsageError(
            f"--compile: {plan.algorithm} reads layers inside the network, which compiling hides"
        )
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        raise MissingDependencyError("--compile: needs a C++ compiler, and none was found")
