"""What happens when memory runs out: smaller parts, the same gradients, and an end that says so."""

import json
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.networks import CPU, LIMIT, NORMALIZE, Greedy, assignment, pictures, trained
from support.pages import TESTS
from support.runs import python
from support.small_runs import small_run
from torch import Tensor, nn

from fedcli.errors import DataError, OutOfMemoryError, UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.records import encode
from fedcli.models import build
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.steps.train_client import train_client
from fedcli.training.batches import InMemory, in_order
from fedcli.training.devices import choose_device, is_out_of_memory, limit_memory
from fedcli.training.gradients import BatchResult, Gradients

PLANS = {
    "sgd": TrainPlan(epochs=2, batch_size=16, lr=0.05),
    "adam, clipped": TrainPlan(epochs=2, batch_size=16, optimizer="adam", lr=1e-3, clip_grad=0.5),
    "mixup and smoothing": TrainPlan(epochs=2, batch_size=16, mixup=0.4, label_smoothing=0.1),
    "fedprox": TrainPlan.of(epochs=2, batch_size=16, algorithm="fedprox", mu=0.1),
    "scaffold": TrainPlan.of(epochs=2, batch_size=16, algorithm="scaffold", scaffold_option=1),
    "moon": TrainPlan(epochs=2, batch_size=16, algorithm="moon"),
    "ditto": TrainPlan(epochs=2, batch_size=16, algorithm="ditto"),
    "augmented": TrainPlan(epochs=2, batch_size=16, augment=("flip", "crop", "cutout")),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_in_parts_the_result_is_that_of_whole_batches(plan: TrainPlan) -> None:
    """Without BatchNorm the gradients are the same sums in another order."""
    whole = trained(assignment(plan, Greedy(None)))
    told: list[int] = []
    parts = trained(assignment(plan, Greedy(5)), on_shrink=told.append)
    assert told == [8, 4]  # once a step down, and not again in later batches
    assert (whole.micro_batch, parts.micro_batch) == (None, 4)
    for mine, other in ((whole.sent, parts.sent), (whole.kept, parts.kept)):
        assert mine.keys() == other.keys()
        for name in mine:
            assert np.allclose(mine[name], other[name], rtol=1e-4, atol=2e-6), name
    for a, b in zip(whole.epochs, parts.epochs, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.accuracy == b.accuracy


def test_the_gradients_of_a_batch_are_gone_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are as large as the network, and two sets of them would be held at a time."""
    measured = Gradients.of
    last: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def of(gradients: Gradients, *given: Any) -> BatchResult:
        alive.append(sum(one() is not None for one in last))
        result = measured(gradients, *given)
        last[:] = [weakref.ref(one) for one in result.gradients or []]
        return result

    monkeypatch.setattr(Gradients, "of", of)
    trained(assignment(PLANS["sgd"], Greedy(None)))
    assert len(last) > 1
    assert len(alive) > 2
    assert not any(alive)


def test_asked_for_and_found_by_running_out_are_the_same_bytes() -> None:
    """An attempt that failed leaves no trace: neither in BatchNorm nor in Dropout's draws."""
    plan = PLANS["sgd"]

    def network(limit: int | None) -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.Dropout(0.3),
            Greedy(limit, nn.Flatten(), nn.Linear(144, 2)),
        )

    asked = trained(assignment(plan, network(None), micro_batch=4))
    found = trained(assignment(plan, network(5)))
    whole = trained(assignment(plan, network(None)))
    for name, value in asked.sent.items():
        assert value.tobytes() == found.sent[name].tobytes(), name
    assert asked.sent["1.running_mean"].tobytes() != whole.sent["1.running_mean"].tobytes()


def _gpu(count: int) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")


def _cpu(count: int) -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def _cublas(count: int) -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")


def _onednn(count: int) -> None:
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize("fail", [_gpu, _cpu, _cublas, _onednn])
def test_every_way_that_memory_runs_out_is_known(fail: Callable[[int], None]) -> None:
    told: list[int] = []
    trained(assignment(PLANS["sgd"], Greedy(9, fail=fail)), on_shrink=told.append)
    assert told == [8]


def test_other_errors_are_not_taken_for_it() -> None:
    def broken(count: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trained(assignment(PLANS["sgd"], Greedy(9, fail=broken)))
    assert not is_out_of_memory(RuntimeError("the size of tensor a must match"))


def test_memory_may_run_out_on_the_way_back() -> None:
    class Late(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(context: Any, *gradients: Any) -> Any:
            if len(gradients[0]) > 9:
                raise torch.OutOfMemoryError("on the way back")
            return gradients[0]

    class Net(Greedy):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = Late.apply(super().forward(x))
            return result

    whole, found = (trained(assignment(PLANS["sgd"], net)) for net in (Greedy(None), Net(None)))
    assert found.micro_batch == 8
    assert all(np.allclose(whole.sent[n], found.sent[n], atol=1e-6) for n in whole.sent)


def test_the_gradient_over_all_examples_and_the_loss_at_the_start_fit_too() -> None:
    plan = replace(PLANS["scaffold"], initial_loss=True)
    whole, parts = (trained(assignment(plan, Greedy(most))) for most in (None, 3))
    assert whole.initial_loss == pytest.approx(parts.initial_loss, rel=1e-6)
    x, y = pictures(40)
    found = []
    for module in (Greedy(None), Greedy(3)):
        gradients = Gradients(plan, CPU, None, lambda size: None)
        source = InMemory(x, y, CPU)
        parameters = list(module.parameters())
        batches = in_order(40, 16)
        found.append(gradients.of_all(module, parameters, source, batches, NORMALIZE, seed=0))
    module = Greedy(None)
    loss = nn.functional.cross_entropy(module(NORMALIZE(x)), y)
    expected = torch.autograd.grad(loss, list(module.parameters()))
    for values in zip(expected, *found, strict=True):
        assert all(torch.allclose(values[0], other, atol=1e-6) for other in values[1:])


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_process_that_may_take_no_more_memory_goes_on_in_parts() -> None:
    code = """
import resource
from support.networks import TrainPlan, assignment, trained
from fedcli.models import build
from fedcli.run.info import ModelInfo

def train(count):
    network = build(ModelInfo("cnn"), 2, (3, 8, 8), own=None, seed=0)
    return trained(assignment(TrainPlan(epochs=1, batch_size=2048), network, count))

train(8)  # what is set up once is not to count
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = train(2048)
print(found.micro_batch, found.epochs[0].loss)
"""
    done = python(code, cwd=TESTS)
    assert done.status == 0, done.err
    micro_batch, loss = done.out.split()
    assert 1 <= int(micro_batch) <= 1024
    plan = TrainPlan(epochs=1, batch_size=2048)
    network = build(ModelInfo("cnn"), 2, (3, 8, 8), own=None, seed=0)
    whole = trained(assignment(plan, network, 2048))
    assert whole.micro_batch is None
    assert float(loss) == pytest.approx(whole.epochs[0].loss, rel=1e-5)


def test_one_example_is_the_least() -> None:
    told: list[int] = []
    trained(assignment(PLANS["sgd"], Greedy(1)), on_shrink=told.append)
    assert told == [8, 4, 2, 1]
    with pytest.raises(OutOfMemoryError, match="one example at a time") as caught:
        trained(assignment(PLANS["sgd"], Greedy(0)))
    assert caught.value.status == 6


def test_batchnorm_cannot_go_down_to_one() -> None:
    module = nn.Sequential(Greedy(1, nn.Flatten(), nn.Linear(192, 8)), nn.BatchNorm1d(8))
    with pytest.raises(OutOfMemoryError, match="BatchNorm cannot normalise one"):
        trained(assignment(PLANS["sgd"], module))


def test_one_example_at_a_time_that_was_asked_for_is_no_lack_of_memory() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8))
    with pytest.raises(DataError, match="--micro-batch 1: BatchNorm cannot normalise one"):
        trained(assignment(PLANS["sgd"], module, micro_batch=1))


def test_a_share_of_the_memory_belongs_to_a_gpu() -> None:
    with pytest.raises(UsageError, match="--gpu-memory-fraction: needs"):
        limit_memory(choose_device("cpu"), 0.5)
    limit_memory(choose_device("cpu"), None)


class Said:
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, label: str, total: int) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    plan = Plan(train=TrainPlan(epochs=1, batch_size=16))
    return small_run(
        tmp_path / "fedrun", plan, clients=("0", "1"), model="support.networks:limited"
    )


def _facts(run: Run, client: str) -> tuple[Mapping[str, Any], dict[str, Any]]:
    with Checkpoint(run.round(1).update(client)) as update:
        telemetry = json.loads(run.round(1).telemetry(client).read_text())
        return encode(update.metadata.training), telemetry


def test_it_is_said_recorded_and_no_other_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*clients: str, **options: Any) -> tuple[list[str], list[bool]]:
        said = Said()
        execution = Execution(threads=1, **options)
        result = train_client(
            run, clients, execution=execution, own_model=run.info.model.name, progress=said
        )
        return said.lines, [client.already_done for client in result.clients]

    monkeypatch.setitem(LIMIT, "most", 5)
    lines, _ = train("0")
    assert [line for line in lines if "out of memory" in line] == [
        f"client 0: out of memory; continuing with {size} examples at a time"
        f" (next time: --micro-batch {size})"
        for size in (8, 4)
    ]
    training, telemetry = _facts(run, "0")
    assert (training["micro_batch"], telemetry["micro_batch"]) == (4, 4)
    assert train("0")[1] == [True]
    # what was asked for may become smaller, too
    train("1", micro_batch=8)
    assert _facts(run, "1")[0]["micro_batch"] == 4
    assert train("1", micro_batch=8)[1] == [True]
    with pytest.raises(Exception, match="--micro-batch 4, not 2"):
        train("1", micro_batch=2)
    # on a larger machine the same is asked for, and there already
    monkeypatch.setitem(LIMIT, "most", 1000)
    assert train("0", "1")[1] == [True, True]


def test_nothing_is_left_of_a_client_that_does_not_fit(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMIT, "most", 0)
    before = set(run.root.rglob("*"))
    with pytest.raises(OutOfMemoryError):
        train_client(run, ["0"], own_model=run.info.model.name)
    assert set(run.root.rglob("*")) - {run.round(1).path} == before
