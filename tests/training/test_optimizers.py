"""The local optimizers against those of torch."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedcli.plan import TrainPlan
from fedcli.training.optimizers import OPTIMIZERS, clip

SHAPES = ((4, 3, 3, 3), (4,), (2, 36), ())


def draw(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


REFERENCES: dict[str, Any] = {
    "sgd": lambda p, m, w: torch.optim.SGD(p, lr=0.05, momentum=m, weight_decay=w),
    "adam": lambda p, m, w: torch.optim.Adam(p, lr=0.05, betas=(m, 0.999), weight_decay=w),
    "adamw": lambda p, m, w: torch.optim.AdamW(p, lr=0.05, betas=(m, 0.999), weight_decay=w),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_steps_are_those_of_torch(name: str, momentum: float, weight_decay: float) -> None:
    plan = TrainPlan(optimizer=name, momentum=momentum, weight_decay=weight_decay)
    ours, theirs = draw(0), [p.requires_grad_() for p in draw(0)]
    own = OPTIMIZERS[name](ours, plan, 0.05)
    reference = REFERENCES[name](theirs, momentum, weight_decay)
    for seed in range(1, 8):
        gradients = draw(seed)
        kept = [g.clone() for g in gradients]
        own.step(gradients)
        for parameter, gradient in zip(theirs, kept, strict=True):
            parameter.grad = gradient.clone()
        reference.step()
        assert all(torch.equal(a, b) for a, b in zip(gradients, kept, strict=True))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-7)


def test_without_decay_adamw_is_adam() -> None:
    ends = []
    for name in ("adam", "adamw"):
        parameters = draw(0)
        optimizer = OPTIMIZERS[name](parameters, TrainPlan(optimizer=name), 0.05)
        for seed in range(1, 5):
            optimizer.step(draw(seed))
        ends.append(parameters)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@given(st.floats(1e-3, 100), st.floats(1e-3, 100))
def test_clipping_is_that_of_clip_grad_norm(scale: float, norm: float) -> None:
    gradients = [scale * g for g in draw(3)]
    parameters = [torch.zeros(shape, requires_grad=True) for shape in SHAPES]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(parameters, norm)
    clipped = clip(gradients, norm)
    for a, parameter in zip(clipped, parameters, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(a, parameter.grad)
    total = torch.cat([g.flatten() for g in clipped]).norm().item()
    assert total <= norm * (1 + 1e-5)
