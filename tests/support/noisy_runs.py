"""Runs whose rounds protect the clients, made by hand."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fedcli.formats.checkpoint import save
from fedcli.formats.dtypes import Values
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.plan import AggregatePlan, Plan
from fedcli.run import Run
from fedcli.security.noise_key import NoiseKey, write_noise_key
from fedcli.steps.aggregate import AggregateResult, aggregate
from support.handmade import loaded
from support.runs import deliver, run_info

Tensors = dict[str, Any]


def model(size: int = 40) -> Tensors:
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.standard_normal(size, dtype=np.float32),
        "b.weight": rng.standard_normal((3, 2), dtype=np.float32),
    }


def noisy_run(
    root: Path,
    clients: int = 3,
    base: Tensors | None = None,
    *,
    roles: Mapping[str, Role] = MappingProxyType({}),
    tied: Mapping[str, str] | None = None,
    **options: Any,
) -> tuple[Run, NoiseKey]:
    """A run that commits to a new noise key, with these options of aggregation in its plan."""
    key = write_noise_key(root.with_suffix(".key"), outside=root)
    names = tuple(map(str, range(clients)))
    plan = Plan(aggregate=AggregatePlan(**options))
    run = Run.create(root, replace(run_info(names), plan=plan, noise_key=key.commitment))
    start = Metadata(Kind.GLOBAL, run.id, round=0, roles=roles, tied=tied, seed=0)
    save(run.round(0).global_model, model() if base is None else base, start)
    return run, key


def send(run: Run, steps: Mapping[str, Any], number: int = 1) -> None:
    """Let clients deliver the model plus their steps: one number or array per tensor, or one."""
    base = loaded(run.round(number - 1).global_model)
    for client, step in steps.items():
        own = step if isinstance(step, Mapping) else dict.fromkeys(base, step)
        values = {
            name: np.asarray(tensor + np.asarray(own[name], tensor.dtype), tensor.dtype)
            for name, tensor in base.items()
        }
        deliver(run, client, values, round_number=number, roles={})


def combine(run: Run, key: NoiseKey | None = None, **options: Any) -> AggregateResult:
    return aggregate(run, noise_key=None if key is None else key.path, **options)


def moved(run: Run, number: int = 1) -> Values:
    """How far a round moved the model: all coordinates, float64."""
    before, after = (loaded(run.round(n).global_model) for n in (number - 1, number))
    return np.concatenate(
        [(after[name].astype(np.float64) - before[name]).ravel() for name in before]
    )


def manifest_of(run: Run, number: int = 1) -> Manifest:
    found = Manifest.read(run.round(number).manifest)
    assert found is not None
    return found
