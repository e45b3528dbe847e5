"""Local algorithms against the objectives that they state, and against FedAvg where they are it."""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from support.networks import NORMALIZE, assignment, pictures, trained
from torch import Tensor, nn
from torch.func import functional_call

from fedcli.algorithms import ALGORITHMS
from fedcli.algorithms.base import RoundStart
from fedcli.algorithms.lengths import normalized_steps
from fedcli.algorithms.moon import Contrastive
from fedcli.client.local_training import Trained, terms_of
from fedcli.client.tensors import Tensors
from fedcli.errors import UsageError
from fedcli.models.weights import to_array, to_arrays
from fedcli.plan import TrainPlan

Arrays = Mapping[str, Any]
PLAN = TrainPlan(epochs=2, batch_size=16, lr=0.05, weight_decay=1e-3)
BIG = ("4.weight", "4.bias")  # the first linear layer of the network
HEAD = ("6.weight", "6.bias")


def network(seed: int = 5, *, norm: bool = True) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 8),
            nn.Tanh(),
            nn.Linear(8, 2),
        )


def train(plan: TrainPlan, module: nn.Module | None = None, **others: Any) -> Trained:
    return trained(replace(assignment(plan, module or network()), **others))


def tensors(*, frozen: tuple[str, ...] = (), local: tuple[str, ...] = ()) -> Tensors:
    return Tensors(frozenset(frozen), frozenset(local))


def slot(found: Trained, name: str) -> dict[str, Any]:
    return {
        k.removeprefix(f"{name}/"): v for k, v in found.kept.items() if k.startswith(f"{name}/")
    }


def same_bits(a: Arrays, b: Arrays, names: Any = None) -> bool:
    return all(a[name].tobytes() == b[name].tobytes() for name in names or a)


def parameters(seed: int, *, norm: bool = True, scale: float = 0.1) -> dict[str, Any]:
    """Some numbers for every parameter of the network."""
    generator = torch.Generator().manual_seed(seed)
    named = network(norm=norm).named_parameters()
    return {n: to_array(scale * torch.randn(p.shape, generator=generator)) for n, p in named}


def test_every_algorithm_says_what_it_is_and_where_it_is_from() -> None:
    for name, row in ALGORITHMS.items():
        assert row.name == name
        assert row.summary
        assert re.search(r"\d{4}", row.source)


# --- where they are FedAvg -----------------------------------------------------------------------

NEUTRAL: dict[str, dict[str, Any]] = {
    "fedprox": {"algorithm": "fedprox", "mu": 0.0},
    "scaffold without variates": {"algorithm": "scaffold"},
    "scaffold, option 1": {"algorithm": "scaffold", "scaffold_option": 1},
    "fednova": {"algorithm": "fednova"},
    "feddyn": {"algorithm": "feddyn", "feddyn_alpha": 0.0},
    "moon": {"algorithm": "moon", "mu": 0.0},
    "moon in a first round": {"algorithm": "moon"},
    "ditto": {"algorithm": "ditto", "ditto_lambda": 0.0},
    "ditto with a pull": {"algorithm": "ditto", "ditto_lambda": 5.0},
    "no proximal term": {"proximal": 0.0},
    "no local layers": {"local_layers": ()},
}


OF_ADAM = ["fedprox", "feddyn", "moon", "ditto", "ditto with a pull", "no proximal term"]


@pytest.mark.parametrize(
    ("optimizer", "case"), [*(("sgd", case) for case in NEUTRAL), *(("adam", c) for c in OF_ADAM)]
)
def test_what_is_sent_is_that_of_fedavg_to_the_bit(optimizer: str, case: str) -> None:
    plan = replace(PLAN, optimizer=optimizer)
    plain = train(plan).sent
    sent = train(plan.with_options(NEUTRAL[case])).sent
    assert same_bits(plain, sent)
    assert all(name.startswith("control/") for name in sent.keys() - plain.keys())


def test_scaffold_with_one_client_is_fedavg_in_every_round() -> None:
    plan = replace(PLAN, algorithm="scaffold")
    fedavg, scaffold = network(), network()
    control: dict[str, Any] = {}
    for _ in range(3):  # of one client, c is c_i: what the client adds to it is all that it is
        found = train(plan, scaffold, kept=control, server=control)
        control = slot(found, "control")
        assert same_bits(train(PLAN, fedavg).sent, found.sent)
    assert np.abs(control["6.weight"]).max() > 0


def test_moon_without_weight_is_fedavg_in_a_later_round_too() -> None:
    plan = PLAN.with_options({"algorithm": "moon", "mu": 0.0})
    found = train(plan, kept=to_arrays(network(9)))
    assert same_bits(train(PLAN).sent, found.sent)


# --- against autograd of the written objective ---------------------------------------------------

Objective = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Tensor], Tensor]
STEPS = 4
WHOLE = TrainPlan(epochs=STEPS, batch_size=40, lr=0.05, momentum=0.0)  # one batch an epoch
ONE, TWO = parameters(1, norm=False), parameters(2, norm=False)
OLD = to_arrays(network(9, norm=False))


def way_off(w: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([((w[name] - start[name]) ** 2).sum() for name in start]).sum()


def dot(w: Mapping[str, Tensor], values: Arrays) -> Tensor:
    return torch.stack([(w[n] * torch.from_numpy(values[n])).sum() for n in values]).sum()


def features(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    module = network(norm=False)
    return functional_call(module[:6], {n: v for n, v in w.items() if not n.startswith("6.")}, x)


def contrast(w: Mapping[str, Tensor], start: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Equation 3 of MOON, word by word."""
    before = {name: torch.from_numpy(value) for name, value in OLD.items()}
    z, near, far = (features(model, x) for model in (w, start, before))

    def sim(other: Tensor) -> Tensor:
        return (z * other).sum(1) / (z.norm(dim=1) * other.norm(dim=1))

    pull, push = (torch.exp(sim(other) / 0.5) for other in (near, far))
    return -torch.log(pull / (pull + push)).mean()


OBJECTIVES: dict[str, tuple[dict[str, Any], dict[str, Any], Objective]] = {
    "fedprox": ({"algorithm": "fedprox", "mu": 0.7}, {}, lambda w, s, x: 0.35 * way_off(w, s)),
    "scaffold": (
        {"algorithm": "scaffold"},
        {"kept": ONE, "server": TWO},
        lambda w, s, x: dot(w, TWO) - dot(w, ONE),
    ),
    "scaffold, proximal": (
        {"algorithm": "scaffold", "proximal": 0.7},
        {"kept": ONE, "server": TWO},
        lambda w, s, x: dot(w, TWO) - dot(w, ONE) + 0.35 * way_off(w, s),
    ),
    "feddyn": (
        {"algorithm": "feddyn", "feddyn_alpha": 0.7},
        {"kept": ONE},
        lambda w, s, x: 0.35 * way_off(w, s) - dot(w, ONE),
    ),
    "feddyn, now without": (
        {"algorithm": "feddyn", "feddyn_alpha": 0.0},
        {"kept": ONE},
        lambda w, s, x: -dot(w, ONE),
    ),
    "moon": (
        {"algorithm": "moon", "mu": 3.0},
        {"kept": OLD},
        lambda w, s, x: 3.0 * contrast(w, s, x),
    ),
}


def descend(start: Mapping[str, Tensor], objective: Objective, steps: int) -> dict[str, Tensor]:
    """Take steps down the client's mean loss and the term, by autograd."""
    x, y = pictures(40)
    inputs, module = NORMALIZE(x), network(norm=False)
    w = {name: value.clone() for name, value in start.items()}
    for _ in range(steps):
        w = {name: value.requires_grad_() for name, value in w.items()}
        loss = F.cross_entropy(functional_call(module, w, inputs), y) + objective(w, start, inputs)
        gradients = torch.autograd.grad(loss, list(w.values()))
        w = {n: (w[n] - WHOLE.lr * g).detach() for n, g in zip(w, gradients, strict=True)}
    return w


def at_start(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


@pytest.mark.parametrize(("changes", "given", "objective"), OBJECTIVES.values(), ids=OBJECTIVES)
def test_the_steps_are_those_of_autograd_on_the_written_objective(
    changes: dict[str, Any], given: dict[str, Any], objective: Objective
) -> None:
    module = network(norm=False)
    reference = descend(at_start(module), objective, STEPS)
    found = train(WHOLE.with_options(changes), module, **given).sent
    plain = train(WHOLE, network(norm=False)).sent
    for name, value in reference.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=2e-6)
    assert max(np.abs(plain[name] - found[name]).max() for name in plain) > 2e-4  # and not nothing


def test_dittos_personal_model_minimises_its_own_objective() -> None:
    """The center is the global model of this round, not what the client began with."""
    module, own = network(norm=False), network(9, norm=False)
    center = at_start(module)

    def term(w: Mapping[str, Tensor], start: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return 0.35 * way_off(w, center)

    reference = descend(at_start(own), term, STEPS)
    plan = WHOLE.with_options({"algorithm": "ditto", "ditto_lambda": 0.7})
    found = slot(train(plan, module, kept=to_arrays(own)), "personal")
    for name, value in reference.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=2e-6)


@pytest.mark.parametrize("changes", [{"algorithm": "fedprox", "mu": 0.7}, {"proximal": 0.7}])
def test_the_proximal_term_is_over_what_is_sent_only(changes: dict[str, Any]) -> None:
    """There is no global model for layers that stay with the client to be near to."""

    def term(w: Mapping[str, Tensor], start: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return 0.35 * way_off(w, {n: value for n, value in start.items() if n not in HEAD})

    module = network(norm=False)
    reference = descend(at_start(module), term, STEPS)
    found = train(WHOLE.with_options(changes), module, tensors=tensors(local=HEAD))
    for name, value in {**found.sent, **slot(found, "local")}.items():
        np.testing.assert_allclose(value, reference[name].numpy(), atol=2e-6)


# --- what they keep ------------------------------------------------------------------------------


def gradients_on_the_way(plan: TrainPlan, **given: Any) -> list[dict[str, Tensor]]:
    """The gradients of the mean loss at the models that each step starts from."""
    x, y = pictures(40)
    found = []
    for steps in range(plan.epochs):
        module = network(norm=False)
        if steps:
            train(replace(plan, epochs=steps), module, **given)
        loss = F.cross_entropy(module(NORMALIZE(x)), y)
        named = dict(module.named_parameters())
        grads = torch.autograd.grad(loss, list(named.values()))
        found.append(dict(zip(named, grads, strict=True)))
    return found


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scaffold_keeps_the_mean_gradient_of_its_steps(momentum: float) -> None:
    """Option II; with momentum m the k-th of K gradients moves by 1 + m + … + m^(K-k)."""
    plan = replace(WHOLE, algorithm="scaffold", momentum=momentum)
    given: dict[str, Any] = {"kept": ONE, "server": TWO}
    gradients = gradients_on_the_way(plan, **given)
    counts = np.array([sum(momentum**i for i in range(STEPS - k)) for k in range(STEPS)])
    found = train(plan, network(norm=False), **given)
    new = slot(found, "control")
    for name in ONE:
        each = np.stack([g[name].numpy() for g in gradients])
        mean = np.tensordot(counts / counts.sum(), each, axes=1)
        np.testing.assert_allclose(new[name], mean, atol=2e-5)
        np.testing.assert_array_equal(found.sent[f"control/{name}"], new[name] - ONE[name])


def test_scaffold_with_option_1_keeps_the_gradient_at_the_start() -> None:
    plan = WHOLE.with_options({"algorithm": "scaffold", "scaffold_option": 1, "batch_size": 16})
    found = train(plan, network(norm=False), kept=ONE, server=TWO)
    (reference, *_) = gradients_on_the_way(replace(WHOLE, epochs=1))
    new = slot(found, "control")
    for name in ONE:
        np.testing.assert_allclose(new[name], reference[name].numpy(), atol=1e-6)
        np.testing.assert_array_equal(found.sent[f"control/{name}"], new[name] - ONE[name])


@pytest.mark.parametrize("option", [1, 2])
def test_scaffolds_variates_are_of_parameters_that_are_trained_and_sent(option: int) -> None:
    plan = PLAN.with_options({"algorithm": "scaffold", "scaffold_option": option})
    found = train(plan, tensors=tensors(frozen=BIG, local=HEAD))
    names = {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert slot(found, "control").keys() == names
    assert {n for n in found.sent if n.startswith("control/")} == {f"control/{n}" for n in names}
    assert all(value.dtype == np.float32 for value in slot(found, "control").values())


def test_the_full_gradient_leaves_buffers_and_later_draws_alone() -> None:
    """With dropout too: option 1 takes the same steps as option 2 where there is no variate."""
    module = nn.Sequential(nn.Dropout(0.5), network())
    twin = nn.Sequential(nn.Dropout(0.5), network())
    before = torch.get_rng_state()
    first = train(PLAN.with_options({"algorithm": "scaffold", "scaffold_option": 1}), module)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)  # what was drawn before in this process makes no difference
    again = train(PLAN.with_options({"algorithm": "scaffold", "scaffold_option": 1}), twin)
    assert same_bits(first.sent, again.sent)
    assert same_bits(first.kept, again.kept)


def test_feddyn_keeps_the_gradient_at_its_minimum() -> None:
    """Acar et al. 2021, equation 3: from the first order condition."""
    plan = TrainPlan.of(
        epochs=600, batch_size=40, lr=0.3, algorithm="feddyn", feddyn_alpha=0.5, momentum=0.9
    )
    x, y = pictures(40)
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    kept = {"1.bias": np.array([0.3, -0.3], np.float32)}
    found = train(plan, module, kept=kept)
    loss = F.cross_entropy(module(NORMALIZE(x)), y)
    weight, bias = torch.autograd.grad(loss, [module[1].weight, module[1].bias])
    dual = slot(found, "dual")
    np.testing.assert_allclose(dual["1.weight"], weight.numpy(), atol=1e-5)
    np.testing.assert_allclose(dual["1.bias"], bias.numpy(), atol=1e-5)


def test_dittos_personal_model_without_a_pull_knows_nothing_of_the_others() -> None:
    plan = PLAN.with_options({"algorithm": "ditto", "ditto_lambda": 0.0})
    own = to_arrays(network(9))
    kept = [slot(train(plan, network(s), kept=own), "personal") for s in (1, 2)]
    assert same_bits(*kept)
    pulled = [
        slot(train(plan.with_options({"ditto_lambda": 0.5}), network(s), kept=own), "personal")
        for s in (1, 2)
    ]
    assert not same_bits(*pulled)


def test_dittos_personal_model_is_whole_and_starts_as_the_first_global_one() -> None:
    plan = replace(PLAN, algorithm="ditto")
    first = slot(train(plan), "personal")
    assert first.keys() == to_arrays(network()).keys()
    assert int(first["1.num_batches_tracked"]) == 2 * 3
    again = slot(train(plan, kept=first), "personal")
    assert int(again["1.num_batches_tracked"]) == 4 * 3
    assert same_bits(slot(train(plan, kept=to_arrays(network())), "personal"), first)


def test_moon_keeps_the_model_that_it_sends() -> None:
    found = train(replace(PLAN, algorithm="moon"))
    kept = slot(found, "previous")
    assert kept.keys() == found.sent.keys()
    assert same_bits(kept, found.sent)


def test_what_is_kept_has_more_digits_than_the_weights() -> None:
    """bfloat16 cannot hold a step from 1 to -1/256."""
    for algorithm, expected in (("scaffold", 257 / 256 / 0.05), ("feddyn", 257 / 256 * 0.01)):
        plan = TrainPlan(lr=0.05, momentum=0.0, algorithm=algorithm)
        module = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
        nn.init.constant_(module.weight, 1.0)
        one = plan.local.begin(start_of(plan, module, {}))
        nn.init.constant_(module.weight, -1 / 256)
        with torch.no_grad():
            (kept,) = one.finish(1).state.values()
        assert kept.dtype == torch.float32
        assert kept.item() == pytest.approx(expected, rel=1e-6)


NOTHING_LEFT: dict[str, tuple[TrainPlan, Tensors, str]] = {
    "head": (
        replace(PLAN, local_layers=("*.running_mean",), head_epochs=1),
        tensors(local=("1.running_mean",)),
        "--head-epochs: trains only the layers of --local-layers, which have no parameter",
    ),
    "body": (
        replace(PLAN, local_layers=("6",), head_epochs=1),
        tensors(local=HEAD, frozen=("0.weight", "0.bias", "1.weight", "1.bias", *BIG)),
        "--model: has no parameter left to train",
    ),
}


@pytest.mark.parametrize(("plan", "which", "words"), NOTHING_LEFT.values(), ids=NOTHING_LEFT)
def test_a_stage_without_parameters_is_refused(plan: TrainPlan, which: Tensors, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        train(plan, tensors=which)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_model_that_asks_for_no_gradients_is_refused(algorithm: str) -> None:
    with pytest.raises(UsageError, match="--model: has no parameter left to train"):
        train(replace(PLAN, algorithm=algorithm), network().requires_grad_(False))


# --- MOON's term ---------------------------------------------------------------------------------


def start_of(plan: TrainPlan, module: nn.Module, kept: Mapping[str, Tensor]) -> RoundStart:
    shared = dict(module.named_parameters())
    return RoundStart(
        plan.lr, plan.momentum, 0.0, module, shared, kept, {}, dict, partial(copy.deepcopy, module)
    )


def test_moons_old_models_are_in_evaluation_mode_and_stay_what_they_are() -> None:
    plan = TrainPlan.of(algorithm="moon", mu=2.0, temperature=0.2)
    module, old = network(), network(9)
    twin = network()
    moon = Contrastive(start_of(plan, module, old.state_dict()), 2.0, 0.2)
    x = NORMALIZE(pictures(12)[0])
    module.train()
    for _ in range(2):  # the global model's running statistics do not follow the local one's
        loss = moon.loss(module(x))
    assert loss is not None
    with torch.no_grad():
        z, near, far = (m[:6](x).numpy() for m in (module, twin.eval(), old.eval()))

    def sim(other: Any) -> Any:
        norms = np.linalg.norm(z, axis=1) * np.linalg.norm(other, axis=1)
        return (z * other).sum(1) / norms / 0.2

    pull, push = np.exp(sim(near)), np.exp(sim(far))
    assert loss.item() == pytest.approx(2 * -np.log(pull / (pull + push)).mean(), rel=1e-4)


def test_moon_takes_the_linear_layer_that_comes_last_not_the_one_made_last() -> None:
    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(5, 2)
            self.first = nn.Linear(192, 5)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.last(self.first(x.flatten(1)))
            return result

    module = Crossed()
    start = start_of(TrainPlan(algorithm="moon"), module, module.state_dict())
    moon = Contrastive(start, 1.0, 0.5)
    module(NORMALIZE(pictures(3)[0]))
    assert moon.features.last.shape == (3, 5)


def test_moon_without_a_linear_layer_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten())
    with pytest.raises(UsageError, match="moon: compares inputs of the last linear layer"):
        Contrastive(start_of(TrainPlan(algorithm="moon"), module, {}), 1.0, 0.5)


def test_moon_in_small_parts_is_moon() -> None:
    kept = to_arrays(network(9, norm=False))
    plan = PLAN.with_options({"algorithm": "moon", "mu": 5.0})
    whole = train(plan, network(norm=False), kept=kept).sent
    parts = train(plan, network(norm=False), kept=kept, micro_batch=3).sent
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, atol=1e-5)


# --- layers that do not travel -------------------------------------------------------------------


def test_local_layers_are_kept_not_sent_and_taken_up_again() -> None:
    local = tensors(local=HEAD)
    first = train(PLAN, tensors=local)
    kept = slot(first, "local")
    assert kept.keys() == set(HEAD)
    assert first.sent.keys() == to_arrays(network()).keys() - set(HEAD)
    whole = network(1)
    with torch.no_grad():
        for name in HEAD:
            whole.state_dict()[name].copy_(torch.from_numpy(kept[name]))
    again = train(PLAN, network(1), tensors=local, local=kept)
    assert same_bits(again.sent, train(PLAN, whole, tensors=local).sent)


def test_a_layer_that_is_shared_now_is_the_global_one() -> None:
    kept = to_arrays(network(9))
    assert same_bits(train(PLAN, local=kept).sent, train(PLAN).sent)


def test_the_head_is_trained_first_and_alone_and_then_stays() -> None:
    """FedRep: what the head becomes is what it becomes with all else frozen."""
    body = tuple(name for name in to_arrays(network(norm=False)) if name not in HEAD)
    plan = replace(PLAN, local_layers=("6",), head_epochs=3)
    found = train(plan, network(norm=False), tensors=tensors(local=HEAD))
    alone = train(replace(PLAN, epochs=3), network(norm=False), tensors=tensors(frozen=body))
    assert same_bits(slot(found, "local"), alone.sent)
    start = to_arrays(network(norm=False))
    assert all(np.abs(found.sent[name] - start[name]).max() > 0 for name in body)
    assert [epoch.epoch for epoch in found.epochs] == [1, 2, 3, 1, 2]


def test_frozen_layers_stay_as_they_are_running_statistics_included() -> None:
    frozen = tuple(name for name in to_arrays(network()) if name[0] in "01")
    module = network()
    found = train(PLAN, module, tensors=tensors(frozen=frozen))
    assert found.sent.keys() == to_arrays(network()).keys() - set(frozen)
    assert same_bits(to_arrays(module), to_arrays(network()), frozen)
    # the normalisation is that of evaluation: of the rest alone, trained on its output
    rest = network()
    x, y = pictures(40)
    rest[1].eval()
    loss = F.cross_entropy(rest(NORMALIZE(x)), y)
    (gradient,) = torch.autograd.grad(loss, [rest[6].bias])
    one = replace(WHOLE, epochs=1)
    stepped = train(one, network(), tensors=tensors(frozen=frozen)).sent["6.bias"]
    reference = rest[6].bias.detach() - WHOLE.lr * gradient
    np.testing.assert_allclose(stepped, reference.numpy(), atol=1e-6)


def test_a_parameter_of_two_names_is_frozen_by_either() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(192, 192)
            self.b = nn.Linear(192, 192)
            self.b.weight = self.a.weight
            self.out = nn.Linear(192, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.out(self.b(self.a(x.flatten(1))))
            return result

    module = Tied()
    before = to_array(module.a.weight)
    train(PLAN, module, tensors=tensors(frozen=("b.weight",)))
    assert to_array(module.a.weight).tobytes() == before.tobytes()


# --- FedNova's length ----------------------------------------------------------------------------


@given(st.integers(1, 200), st.floats(0, 0.99), st.floats(0, 0.5), st.floats(0, 1))
def test_the_normalized_steps_are_the_way_of_gradients_of_one(
    steps: int, momentum: float, lr: float, mu: float
) -> None:
    way, velocity = 0.0, 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1 - lr * mu * way
        way += velocity
    found = normalized_steps(steps, momentum=momentum, lr=lr, proximal=mu)
    assert found == pytest.approx(way, rel=1e-6, abs=1e-6)


def test_the_normalized_steps_of_plain_sgd_are_its_steps() -> None:
    assert normalized_steps(17) == 17
    # section 3.1 of the paper, for momentum: (K - ρ (1 - ρ^K) / (1 - ρ)) / (1 - ρ)
    assert normalized_steps(17, momentum=0.5) == pytest.approx((17 - (1 - 0.5**17)) / 0.5)


def test_the_proximal_term_goes_with_every_algorithm_that_has_none() -> None:
    for name, row in ALGORITHMS.items():
        if "proximal" not in row.refuses:
            plan = TrainPlan(algorithm=name, proximal=0.1)
            assert len(terms_of(plan, start_of(plan, network(), {}))) == 2
