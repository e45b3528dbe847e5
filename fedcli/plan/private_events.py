"""What a round of private training spends, and the noise that keeps a target."""

from dataclasses import replace
from decimal import ROUND_CEILING, Context

from fedcli.formats.ledger import Mechanism, PrivacyEvent, Relation
from fedcli.plan.aggregate import AggregatePlan
from fedcli.plan.sampling_rate import public_rate, sampling_rate, steps_per_epoch
from fedcli.plan.train import TrainPlan
from fedcli.privacy import PrivacyLimit, calibrate

_DIGITS = Context(prec=3, rounding=ROUND_CEILING)


def private_steps(plan: TrainPlan, examples: int) -> int:
    """Return the steps of a round, which tell no more of the examples than the public rate."""
    if plan.steps is not None:
        return plan.steps
    return plan.epochs * steps_per_epoch(examples, plan.batch_size)


def round_event(plan: TrainPlan, examples: int) -> PrivacyEvent:
    """Return what a round spends of a client with so many examples, which only it may know."""
    return PrivacyEvent(
        Mechanism.POISSON,
        sigma=plan.noise_multiplier or 0.0,
        clip=plan.clip,
        divisor=float(plan.batch_size),
        relation=Relation.ADD_REMOVE,
        q=sampling_rate(plan.batch_size, examples),
        count=private_steps(plan, examples),
    )


def public_round_event(plan: TrainPlan, examples: int) -> PrivacyEvent:
    """Return what everybody may know of it: q makes way for an upper bound."""
    event = round_event(plan, examples)
    return replace(event, q=public_rate(event.q))


def with_noise(plan: TrainPlan, examples: int) -> TrainPlan:
    """Return the plan with the noise that keeps its target for a client of so many examples.

    The target is of the rounds of this plan alone, and q the public bound, so σ tells no more than
    q does, and is the same in each round. It is rounded up to three digits. A plan without a target
    is returned as it is. Raises what ``calibrate`` does.
    """
    if plan.target_epsilon is None or plan.delta is None:
        return plan
    event = public_round_event(plan, examples)
    rounds = replace(event, count=event.count * (plan.target_rounds or 1))
    sigma = rounded_up(calibrate(rounds, plan.target_epsilon, plan.delta))
    return replace(plan, noise_multiplier=sigma, target_epsilon=None, target_rounds=None)


def sum_event(plan: AggregatePlan) -> PrivacyEvent:
    """Return what a sum over the clients spends, but for the rounding of its noise to a grid.

    C and D do not matter, and stand as 1. An adaptive C costs nothing more: the noise on the sum
    makes up for it.
    """
    relation = Relation(plan.relation or Relation.ADD_REMOVE)
    return PrivacyEvent(Mechanism.GAUSSIAN, plan.update_noise or 0.0, 1.0, 1.0, relation)


def rounded_up(sigma: float) -> float:
    """Return a noise multiplier of three digits that is at least another one."""
    return float(_DIGITS.create_decimal(sigma))


def privacy_limit(plan: TrainPlan) -> PrivacyLimit | None:
    """Return what a client may spend in all; a target without a limit is one."""
    if plan.delta is None:
        return None
    for name in ("max_epsilon", "target_epsilon"):
        if (epsilon := getattr(plan, name)) is not None:
            return PrivacyLimit(epsilon, plan.delta, f"--{name.replace('_', '-')}")
    return None
