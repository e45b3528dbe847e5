"""A membership-inference audit: what somebody who knows everything else can tell of one example.

The attacker knows the model, all examples but one, and every released step; only batches and noise
are secret. He asks how far the steps point along the gradient of the canary.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from support.audit import proved_by_two_worlds
from support.networks import CPU
from support.thorough import times
from torch import Tensor, nn

from fedcli.formats.ledger import Mechanism, PrivacyEvent, Relation
from fedcli.models import build
from fedcli.plan import TrainPlan
from fedcli.privacy import epsilon_at
from fedcli.run.info import ModelInfo
from fedcli.security.secret_streams import SecretStreams
from fedcli.training.augmentation import Targets, channels_last
from fedcli.training.private import PrivateGradients

OTHERS, STEPS, DELTA = 7, 1, 1e-2
TRIALS = times(6000, 1000)
SIGMA, FAINT = 0.8, 0.05


def network() -> nn.Module:
    return build(ModelInfo("linear"), 2, (3, 2, 2), own=None, seed=0)


def examples(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Others near zero, and the canary at the end: it has the wrong label, and a long gradient."""
    x = torch.randn((OTHERS + 1, 3, 2, 2), generator=torch.Generator().manual_seed(0)) / 10
    x[-1] = 100
    y = torch.arange(OTHERS + 1) % 2
    y[-1] = 1 - module(x[-1:]).argmax()
    return channels_last(x), y


def steps(plan: TrainPlan, module: nn.Module, secret: int, count: int) -> Tensor:
    """The sum of all steps that are released of the first ``count`` examples."""
    x, y = examples(module)
    streams = SecretStreams(secret.to_bytes(32, "little"))
    gradients = PrivateGradients(plan, CPU, None, lambda size: None, streams)
    total = torch.zeros(sum(p.numel() for p in module.parameters()))
    for number in range(STEPS):
        gradients.step = number
        parameters = list(module.parameters())
        found = gradients.of(module, parameters, x[:count], Targets(y[:count]), ())
        assert found.gradients is not None
        total += torch.cat([one.flatten() for one in found.gradients])
    return total


def scores(plan: TrainPlan, module: nn.Module, *, canary: bool) -> NDArray[np.float64]:
    """How far the steps of independent trainings point along the canary's gradient."""
    silent = plan.with_options({"noise_multiplier": 0.0})
    alone = steps(silent, module, 0, OTHERS + 1) - steps(silent, module, 0, OTHERS)
    direction = alone / alone.norm()
    first, count = (1, OTHERS + 1) if canary else (1 + TRIALS, OTHERS)
    found = [
        steps(plan, module, secret, count) @ direction for secret in range(first, first + TRIALS)
    ]
    return np.array([float(one) for one in found])


def test_a_canary_is_found_in_faint_noise_and_not_beyond_the_bound() -> None:
    module = network()
    batch, clip = OTHERS + 1, 0.5
    event = PrivacyEvent(
        Mechanism.GAUSSIAN, SIGMA, clip, float(batch), Relation.ADD_REMOVE, count=STEPS
    )
    allowed = epsilon_at([event], DELTA)
    found = {}
    for sigma in (SIGMA, FAINT):
        plan = TrainPlan(dp="example", clip=clip, noise_multiplier=sigma, batch_size=batch)
        there, absent = (scores(plan, module, canary=canary) for canary in (True, False))
        found[sigma] = proved_by_two_worlds(there, absent, DELTA)
    assert found[FAINT] > allowed  # as much as so few trainings can prove
    assert 0.2 * allowed < found[SIGMA] <= allowed  # the attack is no weak one
