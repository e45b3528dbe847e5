"""Runs of small models made by hand, and what is in their files."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.aggregation.blocks import BLOCK_BYTES
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.dtypes import BFLOAT16, from_float
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.plan import AggregatePlan, Plan
from fedcli.run import Run
from fedcli.steps.aggregate import AggregateResult, aggregate
from fedcli.steps.partial import partial
from support.runs import ROLES, deliver, run_info, tensors

Tensors = dict[str, Any]

# What clients record of their training, for the rules that look at it.
TRAINING = {"lr": 0.1, "momentum": 0.9, "initial_loss": 2.0, "steps": 10, "feddyn_alpha": 0.1}


def loaded(path: Path) -> Tensors:
    with Checkpoint(path) as checkpoint:
        return checkpoint.tensors()


def same_bits(a: Tensors, b: Tensors) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].shape == b[name].shape, name
        assert a[name].tobytes() == b[name].tobytes(), name


def wide(seed: int) -> Tensors:
    """Tensors that share blocks, fill several, and end in the middle of one."""
    rng = np.random.default_rng(seed)
    values = BLOCK_BYTES // 4
    return {
        **tensors(seed),
        "a.weight": rng.standard_normal(2 * values + 17, dtype=np.float32),
        "b.weight": (rng.standard_normal((3, 5)) * 1e-30).astype(np.float32),
        "c.weight": rng.standard_normal((0, 4)).astype(np.float32),
        "d.weight": rng.standard_normal(values // 2).astype(np.float64),
        "z.weight": np.full(3, -0.0, np.float32),
        # no float64 holds them
        "z.num_batches_tracked": rng.integers(2**61, 2**63, values // 2 + 3),
    }


ALL_ROLES = {
    **ROLES,
    "z.num_batches_tracked": Role.COUNTER,
    "m.running_var": Role.BUFFER,
    "n.running_mean": Role.BUFFER,
    "seen": Role.COUNTER,
}


def of_every_kind(seed: int) -> Tensors:
    """``wide``, with all roles, all dtypes of floats, and values of clients that have trained."""
    start, rng = wide(0), np.random.default_rng(seed)
    more = np.random.default_rng(0)
    start["h.weight"] = from_float(more.standard_normal((5, 7)), BFLOAT16)
    start["i.weight"] = more.standard_normal((2, 9)).astype(np.float16)
    start["m.running_var"] = (1 + more.random(70_000)).astype(np.float32)
    start["n.running_mean"] = more.standard_normal(11)
    start["seen"] = np.array([True, False, False])
    if not seed:
        return start
    return {name: _trained(values, rng) for name, values in start.items()}


def _trained(values: Any, rng: np.random.Generator) -> Any:
    if values.dtype == np.bool_:
        return rng.random(values.shape) < 0.5
    if values.dtype.kind == "i":
        return rng.integers(2**61, 2**63, values.shape)
    drift = 0.02 * (0.5 + rng.standard_normal(values.shape))
    if values.dtype == BFLOAT16:
        return from_float(drift, BFLOAT16)
    return np.asarray(values + drift.astype(values.dtype), values.dtype)


def new_run(
    root: Path,
    base: Tensors,
    clients: tuple[str, ...] = ("0", "1", "2"),
    roles: dict[str, Role] | None = None,
) -> Run:
    run = Run.create(root, run_info(clients))
    save(
        run.round(0).global_model,
        base,
        Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES if roles is None else roles, seed=0),
    )
    return run


def copied(run: Run, root: Path) -> Run:
    """The same run in another place."""
    shutil.copytree(run.root, root)
    return Run.open(root)


def snapshot(run: Run) -> dict[str, bytes]:
    """Every file of the run."""
    files = (path for path in sorted(run.root.rglob("*")) if path.is_file())
    return {str(path.relative_to(run.root)): path.read_bytes() for path in files}


SEVEN = tuple("0123456")
ADAPTIVE = {"fedadam", "fedyogi", "fedadagrad"}
# What each strategy needs, for seven clients.
RULE_OPTIONS: dict[str, dict[str, Any]] = {
    "krum": {"byzantine": 2},
    "multi-krum": {"byzantine": 2, "keep": 4},
    "bulyan": {"byzantine": 1},
    "trimmed-mean": {"trim": 0.2},
    "clipped-mean": {"clip_norm": 12.0},
    "centered-clipping": {"clip_norm": 12.0},
}


def controls_of(values: Tensors, roles: Any, seed: int) -> Tensors:
    """What SCAFFOLD sends beside a model: something for every parameter."""
    rng = np.random.default_rng(seed)
    return {
        f"control/{name}": np.asarray(
            rng.standard_normal(v.shape), np.float64 if v.dtype == np.float64 else np.float32
        )
        for name, v in values.items()
        if name not in roles and v.dtype.kind in "fV" and not name.startswith("control/")
    }


def bring_controls(run: Run, strategy: str) -> None:
    """Let the updates of round 1 bring controls, where the strategy asks for them."""
    for client in run.round(1).delivered() if strategy == "scaffold" else ():
        path = run.round(1).update(client)
        with Checkpoint(path) as checkpoint:
            values, metadata = checkpoint.tensors(), checkpoint.metadata
        if Role.CONTROL not in metadata.roles.values():
            controls = controls_of(values, metadata.roles, int(client))
            roles = {**metadata.roles, **dict.fromkeys(controls, Role.CONTROL)}
            save(path, {**values, **controls}, replace(metadata, roles=roles))


def engine(run: Run, strategy: str, **options: Any) -> AggregateResult:
    """Aggregate with what the strategy needs, and these options."""
    bring_controls(run, strategy)
    return aggregate(
        run,
        options={"strategy": strategy, **RULE_OPTIONS.get(strategy, {}), **options},
        strict=True,
    )


EXAMPLES = {"0": 10, "1": 30}


def server(
    run: Run, strategy: str, number: int | None = None, *, force: bool = False, **options: Any
) -> AggregateResult:
    """Aggregate with these options of the rule."""
    return aggregate(
        run, round_number=number, options={"strategy": strategy, **options}, force=force
    )


def train(run: Run, number: int) -> dict[str, Tensors]:
    """Let both clients deliver: the global model, and steps of all sizes away from it."""
    start = loaded(run.round(number - 1).global_model)
    rng = np.random.default_rng(number)
    updates = {}
    for client in EXAMPLES:
        updates[client] = {}
        for name, values in start.items():
            step = rng.standard_normal(values.shape) * 10.0 ** rng.integers(-4, 1, values.shape)
            updates[client][name] = np.asarray(values + step.astype(values.dtype), values.dtype)
        deliver(run, client, updates[client], round_number=number, num_examples=EXAMPLES[client])
    return updates


TEN = tuple(map(str, range(10)))


def planned(root: Path, clients: tuple[str, ...] = TEN, **plan: Any) -> Run:
    """Make a run whose plan has these options of aggregation."""
    info = replace(run_info(clients), plan=Plan(aggregate=AggregatePlan(**plan)))
    run = Run.create(root, info)
    start = Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES, seed=0)
    save(run.round(0).global_model, tensors(0), start)
    return run


def deliver_all(run: Run, clients: Any, number: int = 1) -> None:
    for client in clients:
        deliver(run, client, tensors(10 * number + int(client)), round_number=number)


def who(result: AggregateResult) -> list[str]:
    return [client.client for client in result.clients]


def filled(root: Path, models: dict[str, Tensors], examples: dict[str, int] | None = None) -> Run:
    run = new_run(root, next(iter(models.values())), tuple(models))
    for client, values in models.items():
        count = {} if examples is None else {"num_examples": examples[client]}
        deliver(run, client, values, **count)
    return run


def edge(run: Run, name: str, *members: str | Path, **options: Any) -> str:
    """Write a partial mean beside the run, and return its path."""
    path = run.root.parent / f"{name}.safetensors"
    partial(run, [str(member) for member in members], path, **options)
    return str(path)
