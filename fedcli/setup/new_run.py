"""Shared by ``partition`` and ``init``: the plan, the starting model and round 0 of a new run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcli.errors import OvertakenError, StorageError
from fedcli.formats import checkpoint
from fedcli.masking.maskable import check_held
from fedcli.plan import Plan
from fedcli.plan.private_training import private_plan
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.security.keys import SigningKey
from fedcli.security.signatures import sign_global
from fedcli.setup.existing_run import existing
from fedcli.setup.replacement import take_place
from fedcli.setup.start import Start
from fedcli.storage.atomic import temporary_directory

if TYPE_CHECKING:
    from fedcli.models.weights import InitialModel


def other_seeds(seed: int, **seeds: int | None) -> dict[str, int]:
    """Return those of ``data_seed`` and ``partition_seed`` that differ from the run's seed."""
    return {name: one for name, one in seeds.items() if one is not None and one != seed}


@contextmanager
def built_aside(root: Path, info: RunInfo, *, force: bool) -> Iterator[Run]:
    """Provide a run in a temporary directory, which moves to ``root`` when the block succeeds.

    Until then an old run stays complete. If another process makes the same run meanwhile, that one
    stays. Raises ``ConflictError`` if it makes a different one, and ``StorageError``.
    """
    with temporary_directory(root, "new") as aside:
        run = Run.create(aside, info)
        yield run
        try:
            take_place(run, root, force=force)
        except OvertakenError:
            existing(root, info, force=False)
        except OSError as error:
            what = "replace the old run" if force else "make the run"
            hint = "nothing was changed; repeat the command once the cause is removed"
            raise StorageError(f"cannot {what}: {error}", hint=hint, path=root) from error


def plan_of(start: Start, classes: Sequence[str], shape: tuple[int, ...]) -> Plan:
    """Return the plan of a run; with LoRA, freeze everything that is not trained.

    LoRA trains the adapters, the last layer, and layers that stay with the client, unless the plan
    freezes something itself. Clients that train in private count alike. Raises ``UsageError`` for a
    model that is unknown or does not fit, and what ``private_plan`` does.
    """
    plan = private_plan(start.plan)
    train = plan.train
    if start.model.lora is None or train.freeze:
        return plan
    from fedcli.client.tensors import with_local_layers
    from fedcli.models import build, check_model, try_model
    from fedcli.models.lora import all_but_adapters
    from fedcli.models.ties import ties_of
    from fedcli.plan.layer_patterns import matching

    check_model(start.model, shape)
    module = build(start.model, len(classes), shape, own=start.own_factory, seed=start.seed)
    last_layer = try_model(module, start.model, shape).last_layer
    names = module.state_dict()
    local = with_local_layers(train, module).local_layers
    if any(pattern.startswith("!") for pattern in local):  # "!!" cannot negate them again
        local = tuple(sorted(matching(local, names)))
    trained = matching([last_layer, *local], names)
    tied = {n for pair in ties_of(module).items() if trained & {*pair} for n in pair}
    freeze = all_but_adapters(last_layer, (*local, *sorted(tied)))
    return replace(plan, train=replace(train, freeze=freeze))


def initial_model(start: Start, info: RunInfo) -> "InitialModel":
    """Build the starting model.

    Raises ``UsageError`` for one that is unknown, or does not fit the examples or the plan.
    """
    from fedcli.client.tensors import Tensors, with_local_layers
    from fedcli.models.weights import initial_tensors

    model = initial_tensors(
        start.model,
        num_classes=len(info.dataset.classes),
        shape=info.dataset.shape,
        seed=start.seed,
        init_from=start.init_from,
        pretrained=start.pretrained,
        own_factory=start.own_factory,
    )
    plan = with_local_layers(info.plan.train, model.module)
    away = Tensors.of(plan, model.tensors, model.roles, model.tied).withheld
    sizes = [array.size for name, array in model.tensors.items() if name not in away]
    check_held(info.plan, plan, model.roles, sum(sizes))
    return model


def inputs_of(info: RunInfo) -> dict[str, Any]:
    """Return what the network of a run is given, as results of commands name it."""
    return {
        "mean": info.dataset.mean,
        "std": info.dataset.std,
        "transform_input": bool(info.model.transform_input),
    }


def write_round_zero(run: Run, model: "InitialModel", key: SigningKey | None = None) -> None:
    """Write the starting model; sign it if the coordinator's key is given."""
    from fedcli.client.rebuild import can_be_drawn, start_metadata, write_start_delta

    metadata = start_metadata(run, model)
    with checkpoint.prepare(run.round(0).global_model, model.tensors, metadata) as written:
        if key is not None:
            sign_global(run, run.round(0), written.sha256, None, key)
        if run.info.plan.aggregate.downlink and can_be_drawn(run.info):
            write_start_delta(run, metadata, written.sha256)
