"""What the server keeps from round to round: rounds of separate processes, and faults."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.handmade import EXAMPLES, Tensors, copied, loaded, new_run, same_bits, server, train
from support.runs import ROLES, deliver, fedcli, tensors

from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate

ROUNDS = 10
pytestmark = pytest.mark.usefixtures("unsynced")
Make = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    start = {**tensors(0), "double": np.random.default_rng(9).standard_normal((3, 7))}
    return new_run(tmp_path / "run", start, tuple(EXAMPLES))


# --- ten rounds --------------------------------------------------------------------------------

OPTIMIZERS: dict[str, tuple[str, dict[str, Any], Make]] = {
    "fedavgm": (
        "fedavgm",
        {"server_momentum": 0.8, "server_lr": 0.5},
        lambda p: torch.optim.SGD(p, 0.5, 0.8),
    ),
    "fedadam": (
        "fedadam",
        {"server_lr": 0.1, "beta2": 0.95, "tau": 0.01, "bias_correction": True},
        lambda p: torch.optim.Adam(p, 0.1, (0.9, 0.95), eps=0.01),
    ),
    "fedadagrad": (
        "fedadagrad",
        {"server_lr": 0.1, "tau": 0.01},
        lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=1e-4, eps=0.01),
    ),
}


class Yogi:
    """Zaheer et al. 2018, algorithm 2, as in Reddi et al. 2021; torch has none."""

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        self.parameters = parameters
        self.m = [torch.zeros_like(p) for p in parameters]
        self.v = [torch.full_like(p, 1e-4) for p in parameters]

    def step(self) -> None:
        for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
            m.mul_(0.9).add_(-p.grad, alpha=0.1)
            square = p.grad**2
            v.sub_(0.05 * square * torch.sign(v - square))
            p.data.add_(0.1 * m / (v.sqrt() + 0.01))


OPTIMIZERS["fedyogi"] = ("fedyogi", {"server_lr": 0.1, "beta2": 0.95, "tau": 0.01}, Yogi)


def in_process(run: Run, strategy: str, options: dict[str, Any]) -> None:
    server(run, strategy, **options)


def in_a_process(run: Run, strategy: str, options: dict[str, Any]) -> None:
    words = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, value]
    done = fedcli("aggregate", "--strategy", strategy, *words, "--run", run.root, cwd=run.root)
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("fedavgm", in_a_process),
        ("fedadam", in_a_process),
        ("fedadagrad", in_process),
        ("fedyogi", in_process),
    ],
)
def test_ten_rounds_equal_torch_in_float64(run: Run, name: str, step: Any) -> None:
    """The model is rounded to float32 in every round, and so is the state.

    The reference takes each step from the rounded model, so that its error is that of one round:
    half a unit in the last place of the model, and of the step what ten roundings of the state
    leave, some 1e-6 of it. Tensors of float64 are equal to 1e-12.
    """
    strategy, options, make = OPTIMIZERS[name]
    start = loaded(run.round(0).global_model)
    names = [n for n in start if n not in ROLES]
    parameters = [torch.tensor(start[n].astype(np.float64)) for n in names]
    optimizer = make(parameters)
    for number in range(1, ROUNDS + 1):
        before = loaded(run.round(number - 1).global_model)
        updates = train(run, number)
        step(run, strategy, options)
        for tensor, n in zip(parameters, names, strict=True):
            mean = (10 * updates["0"][n].astype(float) + 30 * updates["1"][n].astype(float)) / 40
            tensor.data = torch.tensor(before[n].astype(np.float64))
            tensor.grad = torch.tensor(before[n].astype(np.float64) - mean)
        optimizer.step()
        found = loaded(run.round(number).global_model)
        for tensor, n in zip(parameters, names, strict=True):
            moved = tensor.numpy() - before[n]
            tolerance = 1e-12 * (1 + np.abs(moved))
            if found[n].dtype == np.float32:
                tolerance = 0.51 * np.spacing(np.abs(tensor.numpy()).astype(np.float32)).astype(
                    float
                ) + 2e-6 * np.abs(moved)
            error = np.abs(found[n].astype(float) - tensor.numpy())
            assert (error <= tolerance).all(), (number, n, (error / tolerance).max())
    with Checkpoint(run.round(ROUNDS).server_state, Kind.SERVER_STATE) as state:
        assert (state.metadata.round, state.metadata.steps) == (ROUNDS, ROUNDS)


# --- where it starts ---------------------------------------------------------------------------


def test_momentum_0_and_rate_1_are_fedavg_to_the_byte(run: Run) -> None:
    train(run, 1)
    plain = server(run, "fedavg").path.read_bytes()
    assert server(run, "fedavgm", 1, server_momentum=0.0).already_done
    run.round(1).global_model.unlink()
    server(run, "fedavgm", server_momentum=0.0)
    assert run.round(1).global_model.read_bytes() == plain
    assert not run.round(1).server_state.exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("fedadam", {"strategy": "fedyogi"}),  # of the same slots, and another meaning
        ("fedavgm", {"strategy": "fedadam"}),
        ("fedavg", {"strategy": "fedadam"}),
        ("centered-clipping", {"strategy": "fedavgm"}),
        ("fedavgm", {"strategy": "centered-clipping", "clip_norm": 1.0}),
    ],
)
def test_another_rule_starts_anew(
    tmp_path: Path, run: Run, first: str, second: dict[str, Any]
) -> None:
    train(run, 1)
    server(run, first, **({"clip_norm": 1.0} if first == "centered-clipping" else {}))
    start = loaded(run.round(1).global_model)
    updates = train(run, 2)
    after = loaded(aggregate(run, options=second).path)
    fresh = new_run(tmp_path / "fresh", start, tuple(EXAMPLES))
    for client, values in updates.items():
        deliver(fresh, client, values, num_examples=EXAMPLES[client])
    same_bits(after, loaded(aggregate(fresh, options=second).path))
    with Checkpoint(run.round(2).server_state) as state:
        assert state.metadata.steps == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"bias_correction": True}),  # whose variance starts from 0, not from τ²
        ({"bias_correction": True}, {}),
        ({"tau": 0.01}, {}),
        ({"beta1": 0.0}, {}),
    ],
)
def test_slots_that_start_from_something_else_start_anew(
    tmp_path: Path, run: Run, first: dict[str, Any], second: dict[str, Any]
) -> None:
    train(run, 1)
    server(run, "fedadam", **first)
    start = loaded(run.round(1).global_model)
    updates = train(run, 2)
    after = loaded(server(run, "fedadam", **second).path)
    fresh = new_run(tmp_path / "fresh", start, tuple(EXAMPLES))
    for client, values in updates.items():
        deliver(fresh, client, values, num_examples=EXAMPLES[client])
    same_bits(after, loaded(server(fresh, "fedadam", **second).path))


def test_momentum_goes_on_when_only_the_reducer_changes(tmp_path: Path, run: Run) -> None:
    """From and to a rule that keeps a center besides: v ← 0.9 v + Δ in every round."""
    clipping = {"clip_norm": 1e9, "weighting": "uniform"}  # nothing is clipped
    same = copied(run, tmp_path / "same")
    for number, reduce in ((1, "mean"), (2, "centered-clipping"), (3, "mean")):
        options = clipping if reduce == "centered-clipping" else {"weighting": "uniform"}
        train(run, number)
        server(run, "fedavgm", reduce=reduce, **options)
        train(same, number)
        server(same, "fedavgm", weighting="uniform")
        found, expected = (loaded(each.round(number).global_model) for each in (run, same))
        for name in found.keys() - ROLES.keys():
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)
        with Checkpoint(run.round(number).server_state) as state:
            assert state.metadata.steps == number


def test_the_same_rule_with_other_numbers_goes_on(run: Run) -> None:
    train(run, 1)
    server(run, "fedadam")
    train(run, 2)
    server(run, "fedadam", server_lr=0.5)
    with Checkpoint(run.round(2).server_state) as state:
        assert state.metadata.steps == 2


def test_a_clipping_center_is_the_step_of_the_round_before(run: Run) -> None:
    """Karimireddy et al. 2021, algorithm 2: v + 1/n Σ (Δ_i - v) min(1, τ / |Δ_i - v|)."""
    center = None
    for number in (1, 2, 3):
        before = loaded(run.round(number - 1).global_model)
        updates = train(run, number)
        names = [n for n in before if n not in ROLES]

        def flat(model: Tensors, names: list[str] = names) -> Any:
            return np.concatenate([model[n].astype(float).ravel() for n in names])

        start = flat(before)
        center = np.zeros(len(start)) if center is None else center
        deltas = [flat(updates[client]) - start for client in EXAMPLES]
        apart = [delta - center for delta in deltas]
        moves = [d * min(1, 3 / np.linalg.norm(d)) for d in apart]
        center = center + sum(moves) / 2
        found = loaded(server(run, "centered-clipping", clip_norm=3.0).path)
        np.testing.assert_allclose(flat(found), start + center, rtol=1e-6, atol=1e-6)
