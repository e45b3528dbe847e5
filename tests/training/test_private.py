"""DP-SGD: what one example can do to a step, and what the noise is."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from support.networks import CPU, NORMALIZE, pictures
from torch import Tensor, nn

from fedcli.errors import UsageError
from fedcli.models import build
from fedcli.plan import TrainPlan
from fedcli.plan.sampling_rate import public_rate, sampling_rate, steps_per_epoch
from fedcli.run.info import ModelInfo
from fedcli.security.secret_streams import SecretStreams
from fedcli.training.augmentation import Targets, channels_last
from fedcli.training.layerwise import Layerwise
from fedcli.training.per_example import Functional, PerExample
from fedcli.training.private import PrivateGradients, check_apart
from fedcli.training.secret_noise import add_noise, gaussian, poisson

STREAMS = SecretStreams(b"a key of thirty-two secret bytes")
OTHERS = SecretStreams(b"a key of other thirty-two bytes.")
HUGE = 1e38
PLAN = TrainPlan(dp="example", clip=0.5, noise_multiplier=0.0, batch_size=16)


def own() -> nn.Module:
    """A network that only ``torch.func`` can take apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
        )


def built(name: str, size: int, **more: str) -> nn.Module:
    return build(ModelInfo(name, **more), 2, (3, size, size), own=None, seed=0)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "own": own,
    "linear": lambda: built("linear", 8),
    "cnn": lambda: built("cnn", 8),
    "resnet18, 16 pixels": lambda: built("resnet18", 16, norm="group"),
    "resnet18, 32 pixels": lambda: built("resnet18", 32, norm="group"),
}


def kinds(module: nn.Module) -> list[PerExample]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    found: list[PerExample] = [Functional(module, parameters, 0.1)]
    if Layerwise.supports(module, parameters):
        found.append(Layerwise(module, parameters, 0.1))
    return found


def inputs(count: int, size: int = 8) -> tuple[Tensor, Tensor]:
    x = torch.randn((count, 3, size, size), generator=torch.Generator().manual_seed(count))
    return channels_last(x), torch.arange(count) % 2


def alone(module: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """The gradient of one example, as autograd gives it for a batch of one."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    loss = F.cross_entropy(module(x[None]), y[None], label_smoothing=0.1)
    return list(torch.autograd.grad(loss, parameters))


def norm(gradients: list[Tensor]) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients))


def looped(module: nn.Module, x: Tensor, y: Tensor, clip: float) -> list[Tensor]:
    """The sum of clipped gradients in the plainest way there is, in float64."""
    total: list[Tensor] = []
    for one, label in zip(x, y, strict=True):
        found = alone(module, one, label)
        factor = min(1.0, clip / norm(found))
        clipped = [g.double() * factor for g in found]
        total = [a + b for a, b in zip(total, clipped, strict=True)] if total else clipped
    return total


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    return norm([x.double() - y.double() for x, y in zip(a, b, strict=True)])


# The norm C in units of the median norm of the examples: most, half or none are clipped.
SHARES = [*itertools.product(["own", "linear", "cnn"], [0.5, 1.0, 2.0])]
SHARES += [("resnet18, 16 pixels", 1.0), ("resnet18, 32 pixels", 1.0)]


@pytest.mark.parametrize(("name", "share"), SHARES)
def test_clipping_is_that_of_a_loop_over_single_examples(name: str, share: float) -> None:
    module = NETWORKS[name]().double()  # float32 rounds differently in every order of sums
    size = int(name.split()[1]) if name.startswith("resnet18") else 8
    x, y = inputs(7, size)
    x = x.double()
    norms = sorted(norm(alone(module, *one)) for one in zip(x, y, strict=True))
    clip = norms[3] * share
    reference = looped(module, x, y, clip)
    for kind in kinds(module):
        found = kind.clipped_sum(x, y, clip)
        assert distance(found.gradients, reference) < 1e-10 * clip
        assert norm(found.gradients) <= 7 * clip * (1 + 1e-6)
        losses = F.cross_entropy(module(x), y, reduction="sum", label_smoothing=0.1)
        torch.testing.assert_close(found.loss, losses.detach())


@pytest.mark.parametrize("name", ["own", "linear", "cnn"])
def test_in_float32_it_is_that_of_the_loop_to_rounding(name: str) -> None:
    module = NETWORKS[name]()
    x, y = inputs(9)
    reference = looped(module, x, y, 0.5)
    for kind in kinds(module):
        assert distance(kind.clipped_sum(x, y, 0.5).gradients, reference) < 1e-6


def test_the_networks_of_fedcli_are_computed_by_layer() -> None:
    assert [len(kinds(make())) for make in NETWORKS.values()] == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("frozen", ["conv1", "bias", "weight", "fc"])
def test_only_parameters_that_are_trained_count(frozen: str) -> None:
    module = built("cnn", 8)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(frozen not in name)
    x, y = inputs(5)
    reference = looped(module, x, y, 0.3)
    results = [kind.clipped_sum(x, y, 0.3).gradients for kind in kinds(module)]
    assert [distance(one, reference) < 1e-6 for one in results] == [True, True]


BAD = {
    "zero": 0.0,
    "large": 1e4,
    "larger": 1e18,
    "near overflow": HUGE,
    "infinite": math.inf,
    "not a number": math.nan,
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("name", ["own", "linear", "cnn"])
def test_an_example_of_any_size_moves_the_sum_by_c_at_most(name: str, value: float) -> None:
    module, clip = NETWORKS[name](), 0.5
    x, y = inputs(6)
    x[3] = value if not value else value * torch.sign(x[3])
    without = [i for i in range(6) if i != 3]
    for kind in kinds(module):
        there = kind.clipped_sum(x, y, clip).gradients
        absent = kind.clipped_sum(channels_last(x[without]), y[without], clip).gradients
        assert all(bool(torch.isfinite(g).all()) for g in there)
        assert distance(there, absent) <= clip * (1 + 1e-4)
        if not math.isfinite(value):
            assert distance(there, absent) == 0


def test_a_gradient_that_cancels_is_not_scaled_up() -> None:
    """Outer products of 1e4 whose sum is almost zero: rounding must not exceed C."""
    module = built("resnet18", 32, norm="group")
    parameters = list(module.parameters())
    kind = Layerwise(module, parameters, 0.0)
    x = torch.ones((4, 3, 32, 32))  # equal positions, whose gradients sum to zero in GroupNorm
    x[0] *= 1e4
    y = torch.zeros(4, dtype=torch.int64)
    there, absent = (kind.clipped_sum(x[i:], y[i:], 1e-3).gradients for i in (0, 1))
    assert distance(there, absent) <= 1e-3 * (1 + 1e-3)


def test_an_example_with_a_gradient_of_zero_stays_zero() -> None:
    module = built("linear", 8)
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.zeros(2, 3, 8, 8)
    for kind in kinds(module):
        kind.smoothing = 0.0
        weight, bias = kind.clipped_sum(x, torch.tensor([0, 1]), 1.0).gradients
        assert not weight.any()
        assert not bias.any()  # those of both examples cancel


def test_no_example_at_all_contributes_nothing() -> None:
    module = built("cnn", 8)
    for kind in kinds(module):
        found = kind.clipped_sum(torch.empty(0, 3, 8, 8), torch.empty(0).long(), 1.0)
        assert [g.shape for g in found.gradients] == [p.shape for p in module.parameters()]
        assert not any(g.any() for g in found.gradients)
        assert found.loss == found.correct == 0


def private(plan: TrainPlan, micro_batch: int | None = None) -> PrivateGradients:
    return PrivateGradients(plan, CPU, micro_batch, lambda size: None, STREAMS)


def step(gradients: PrivateGradients, module: nn.Module, count: int) -> list[Tensor]:
    x, y = pictures(count)
    prepared = channels_last(NORMALIZE(x))
    found = gradients.of(module, list(module.parameters()), prepared, Targets(y), ())
    assert found.gradients is not None
    return found.gradients


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_a_step_divides_by_the_batch_size_of_the_plan(count: int) -> None:
    module = built("cnn", 8)
    x, y = pictures(count)
    plain = PrivateGradients(replace(PLAN, clip=None), CPU, None, lambda size: None, STREAMS)
    found = step(plain, module, count)
    loss = F.cross_entropy(module(NORMALIZE(x)), y, reduction="sum") / PLAN.batch_size
    if count:
        expected = torch.autograd.grad(loss, list(module.parameters()))
        assert distance(found, list(expected)) < 1e-6 * max(1.0, norm(list(expected)))
    else:
        assert norm(found) == 0


@pytest.mark.parametrize("name", ["own", "cnn"])
def test_micro_batches_change_nothing_beyond_rounding(name: str) -> None:
    module = NETWORKS[name]()
    plan = replace(PLAN, noise_multiplier=1.0)
    whole = step(private(plan), module, 13)
    for size in (1, 4, 12, 13, 100):
        # a value next to the middle between two points of the grid may go the other way
        apart = torch.cat(
            [
                (a - b).flatten()
                for a, b in zip(whole, step(private(plan, size), module, 13), strict=True)
            ]
        )
        assert float(apart.abs().max()) <= 2.0**-10 * 0.5 / 16
        assert float((apart != 0).float().mean()) < 1e-2


def test_noise_has_the_planned_standard_deviation() -> None:
    """χ² over more than a million values, and Kolmogorov's test of their distribution."""
    module = built("cnn", 32)
    plan = replace(PLAN, clip=0.7, noise_multiplier=1.3, batch_size=50)
    noise = torch.cat([g.flatten() for g in step_at(plan, module, 0)]).double()
    expected = 1.3 * 0.7 / 50
    assert len(noise) > 10**6
    chi = float(noise.square().sum()) / expected**2
    assert 1e-3 < stats.chi2.cdf(chi, len(noise)) < 1 - 1e-3
    assert stats.kstest(noise.numpy() / expected, "norm").pvalue > 1e-3


def step_at(plan: TrainPlan, module: nn.Module, number: int) -> list[Tensor]:
    gradients = private(plan)
    gradients.step = number
    x = torch.empty((0, 3, 32, 32))
    targets = Targets(torch.empty(0, dtype=torch.int64))
    found = gradients.of(module, list(module.parameters()), x, targets, ())
    assert found.gradients is not None
    return found.gradients


def test_tails_are_not_cut_and_have_their_share() -> None:
    values = gaussian(STREAMS, 0, 4_000_000).abs()
    for bound in (3.0, 4.0, 4.5):
        expected = 2 * stats.norm.sf(bound) * len(values)
        found = int((values > bound).sum())
        assert abs(found - expected) < 4 * math.sqrt(expected)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def test_noise_of_steps_and_keys_is_independent_and_repeats() -> None:
    count = 200_000
    first, again = (gaussian(STREAMS, 3, count) for _ in range(2))
    assert torch.equal(first, again)
    bound = 4.5 / math.sqrt(count)
    for other in (gaussian(STREAMS, 4, count), gaussian(OTHERS, 3, count)):
        assert abs(correlation(first, other)) < bound
        assert abs(correlation(first.square(), other.square())) < bound
    assert abs(correlation(first[1:], first[:-1])) < bound
    assert abs(correlation(first[: count // 2], first[count // 2 :])) < 1.5 * bound


def test_a_noisy_sum_lies_on_a_grid_that_says_nothing_of_the_sum() -> None:
    """Mironov 2012: with noise added in float32, low bits tell one sum from another."""
    std, count = 0.3, 100_000
    grid = 2.0 ** (math.floor(math.log2(std)) - 10)
    for value in (0.0, 1 / 3, 1e-30):
        (noisy,) = add_noise([torch.full((count,), value)], std, 1, STREAMS, 0)
        steps = noisy.double() / grid
        assert torch.equal(steps, steps.round())
        last = stats.chisquare(torch.bincount(steps.long() % 8).numpy())
        assert last.pvalue > 1e-4


def test_without_noise_the_sum_stays_as_it_is() -> None:
    sums = [torch.tensor([1.0, 1 / 3]), torch.tensor([[1e-30]])]
    found = add_noise(sums, 0.0, 1, STREAMS, 0)
    assert all(torch.equal(a, b) for a, b in zip(found, sums, strict=True))


def test_poisson_batches_draw_each_example_alone() -> None:
    count, rate, steps = 500, 0.02, 400
    drawn = torch.zeros(steps, count)
    for number in range(steps):
        drawn[number, poisson(STREAMS, number, count, rate)] = 1
    sizes = drawn.sum(1)
    assert abs(float(drawn.mean()) - rate) < 4 * math.sqrt(rate / (steps * count))
    # the sizes vary as binomial ones do; shuffled batches would all have ten
    spread = float(sizes.var()) / (count * rate * (1 - rate))
    assert 1e-3 < stats.chi2.cdf(spread * (steps - 1), steps - 1) < 1 - 1e-3
    each = drawn.sum(0)
    pvalue = stats.chisquare(each.numpy()).pvalue
    assert pvalue > 1e-3
    assert poisson(STREAMS, 0, count, 1.0).tolist() == list(range(count))
    assert not len(poisson(STREAMS, 0, 3, 1e-12))


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
@pytest.mark.parametrize("count", [1, 8, 63, 64, 65, 1000, 10**6])
def test_the_public_rate_bounds_q_and_hides_the_number_of_examples(batch: int, count: int) -> None:
    rate = sampling_rate(batch, count)
    shown = public_rate(rate)
    assert rate <= shown <= min(1.0, rate * 2 ** (1 / 8) * (1 + 1e-12))
    assert steps_per_epoch(count, batch) == math.ceil(1 / shown)
    if shown < 1:
        assert math.log2(shown) * 8 == pytest.approx(round(math.log2(shown) * 8), abs=1e-9)


class Watched(nn.Module):
    """A network that keeps a running mean of its inputs."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 2)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean += x.mean()
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def test_a_network_that_mixes_examples_is_refused() -> None:
    module = Watched()
    kind = Functional(module, list(module.parameters()), 0.0)
    with pytest.raises(UsageError, match="--dp example: the model cannot be computed one example"):
        kind.clipped_sum(torch.ones(3, 3, 8, 8), torch.tensor([0, 1, 0]), 1.0)


@pytest.mark.parametrize(
    ("layer", "refused"),
    [
        (nn.BatchNorm2d(3), True),
        (nn.BatchNorm2d(3, track_running_stats=False), True),
        (nn.InstanceNorm2d(3, track_running_stats=True), True),
        (nn.InstanceNorm2d(3), False),
        (nn.GroupNorm(1, 3), False),
        (nn.BatchNorm2d(3).eval(), False),
    ],
)
def test_layers_that_normalise_over_the_batch_are_refused(layer: nn.Module, refused: bool) -> None:
    module = nn.Sequential()
    module.add_module("norm", layer)
    if not refused:
        check_apart(module)
        return
    with pytest.raises(UsageError, match=r"--dp example: layer norm \(") as caught:
        check_apart(module)
    assert "--norm group" in str(caught.value.hint)


class Tied(nn.Module):
    """A network that uses one weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(192, 192, bias=False), nn.Linear(192, 192, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.second(torch.relu(self.first(x.flatten(1))))[:, :2]
        return logits


def test_a_tied_weight_counts_once_with_the_gradients_of_all_its_uses() -> None:
    module = Tied()
    x, y = inputs(5)
    (kind,) = kinds(module)
    assert distance(kind.clipped_sum(x, y, 0.2).gradients, looped(module, x, y, 0.2)) < 1e-6
