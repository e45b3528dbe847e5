"""Training in lower precision: near float32, repeatable, and safe where numbers overflow."""

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.networks import CPU, Greedy, assignment, trained
from torch import Tensor, nn

from fedcli.client.local_training import Trained
from fedcli.errors import FedcliError
from fedcli.plan import TrainPlan
from fedcli.training.augmentation import Targets
from fedcli.training.devices import choose_device
from fedcli.training.gradients import Gradients, LossScale

PLAN = TrainPlan(epochs=4, batch_size=16, lr=0.02)
LOWER = ("bf16", "fp16")


def train(precision: str, **changes: object) -> Trained:
    return trained(assignment(replace(PLAN, precision=precision, **changes), Greedy(None)))


@pytest.mark.parametrize("precision", LOWER)
def test_it_ends_near_float32_with_weights_in_float32(precision: str) -> None:
    reference, found = train("fp32"), train(precision)
    start = {name: value.numpy() for name, value in Greedy(None).state_dict().items()}
    assert {value.dtype for value in found.sent.values()} == {np.dtype("float32")}

    def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
        return sum(float(np.square(one[name] - other[name]).sum()) for name in one) ** 0.5

    assert 0 < distance(found.sent, reference.sent) < 0.1 * distance(start, reference.sent)
    assert found.epochs[-1].loss == pytest.approx(reference.epochs[-1].loss, rel=0.02)
    assert found.epochs[-1].loss < found.epochs[0].loss


def test_on_a_gpu_float32_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = True
        choose_device("cuda")
        assert not any(switch.allow_tf32 for switch in switches)
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


@pytest.mark.parametrize("precision", LOWER)
def test_it_repeats_to_the_bit(precision: str) -> None:
    first, second = train(precision), train(precision)
    assert all(first.sent[n].tobytes() == second.sent[n].tobytes() for n in first.sent)


@pytest.mark.parametrize("precision", LOWER)
def test_the_network_computes_in_it_and_the_loss_in_float32(precision: str) -> None:
    class Watched(Greedy):
        def forward(self, x: Tensor) -> Tensor:
            result = super().forward(x)
            seen.add(result.dtype)
            return result

    seen: set[torch.dtype] = set()
    plan = replace(PLAN, precision=precision, initial_loss=True, epochs=1)
    trained(assignment(plan, Watched(None)))
    # the loss at the start is a score, and scores are computed in float32
    lower = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert seen == {lower, torch.float32}


def overflowing(factor: float) -> tuple[nn.Module, list[Tensor]]:
    """A network whose gradients are of the size of ``factor``."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)
            with torch.no_grad():
                self.fc.weight.zero_()
                self.fc.bias.zero_()

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * factor

    module = Net()
    return module, list(module.parameters())


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    module, parameters = overflowing(100.0)
    gradients = Gradients(replace(PLAN, precision="fp16"), CPU, None, lambda size: None)
    assert gradients.scale is not None
    x, y = torch.ones(8, 4), torch.zeros(8, dtype=torch.int64)
    found = [gradients.of(module, parameters, x, Targets(y), ()) for _ in range(12)]
    skipped = [result.gradients is None for result in found]
    assert skipped[0]
    assert not skipped[-1]
    assert skipped == sorted(skipped, reverse=True)
    assert gradients.scale.value == 2.0 ** (16 - sum(skipped))
    # by hand: the logits are 0, so dL/dlogit = (1/2 - 1, 1/2), and the factor comes in once
    assert found[-1].gradients is not None
    assert torch.allclose(found[-1].gradients[1], torch.tensor([-50.0, 50.0]))


def test_no_step_is_taken_where_it_is_skipped() -> None:
    module, _ = overflowing(3e4)
    plan = replace(PLAN, precision="fp16", epochs=1, batch_size=40, momentum=0.9)
    with torch.no_grad():
        before = {name: value.numpy().copy() for name, value in module.state_dict().items()}

    class Flat(nn.Sequential):
        pass

    flat = Flat(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(3, 4), module)
    result = trained(assignment(plan, flat))
    assert all((result.sent[f"3.{name}"] == value).all() for name, value in before.items())


def test_the_scale_grows_again_and_gives_up_in_the_end() -> None:
    scale = LossScale()
    good, bad = [torch.ones(3)], [torch.tensor([1.0, float("inf")])]
    for _ in range(2000):
        assert scale.unscaled(good) is not None
    assert scale.value == 2.0**17
    assert scale.unscaled(bad) is None
    assert (scale.value, scale.good) == (2.0**16, 0)
    scale = LossScale(2.0**-9)
    assert scale.unscaled(bad) is None
    with pytest.raises(FedcliError, match="gradients overflow in fp16 at any scale"):
        scale.unscaled(bad)


def test_scaling_changes_no_gradient() -> None:
    module = Greedy(None)
    parameters = list(module.parameters())
    x, y = torch.randn(16, 3, 8, 8), torch.zeros(16, dtype=torch.int64)
    gradients = Gradients(replace(PLAN, precision="fp16"), CPU, None, lambda size: None)
    gradients.scale = LossScale(2.0**10)
    found = gradients.of(module, parameters, x, Targets(y), ()).gradients
    assert found is not None
    loss = nn.functional.cross_entropy(module(x), y)
    for a, b in zip(found, torch.autograd.grad(loss, parameters), strict=True):
        assert torch.allclose(a, b, rtol=2e-2, atol=2e-3)


@pytest.mark.skipif(shutil.which("c++") is None, reason="compiling needs a compiler")
def test_a_compiled_network_learns_the_same() -> None:
    plan = replace(PLAN, epochs=1, batch_size=20)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return Greedy(None, nn.Flatten(), nn.Linear(192, 2))

    plain = trained(assignment(plan, network()))
    compiled = trained(assignment(plan, network(), compile=True))
    assert plain.sent.keys() == compiled.sent.keys()  # not the names of the compiled module
    assert all(np.allclose(plain.sent[n], compiled.sent[n], atol=1e-5) for n in plain.sent)
