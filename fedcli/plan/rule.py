"""The aggregation rule of a plan, and the owners of its options."""

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from fedcli.errors import UsageError
from fedcli.options import Declared, declared, one_of, option_of, owned, unknown_value
from fedcli.plan.aggregate import DOWNLINK, LIMITS, PARTS, SAMPLING, AggregatePlan
from fedcli.plan.client_level import BUDGET, CLIENT_LEVEL, check_private_rule
from fedcli.plan.train import TrainPlan
from fedcli.strategies import STRATEGIES, Rule
from fedcli.strategies.reducers import REDUCERS, Reducer, of_function
from fedcli.strategies.server_optimizers import SERVER_OPTIMIZERS
from fedcli.strategies.weightings import WEIGHTINGS
from fedcli.user_code import load_attribute

_NOT_OF_THE_RULE = {"strategy", *PARTS, *SAMPLING, *LIMITS, *DOWNLINK, *CLIENT_LEVEL, *BUDGET}


def resolve(plan: AggregatePlan, typed: Set[str] = frozenset()) -> Rule:
    """Return the rule that a plan describes.

    ``typed`` names the options of the current command: they must belong to the rule, and only a
    typed function is imported. Raises ``UsageError``.
    """
    _check_strategy(plan.strategy)
    strategy = STRATEGIES[plan.strategy]
    reduce = plan.reduce or strategy.reduce
    reducer = _reducer(reduce, "reduce" in typed)
    server_optimizer = plan.server_optimizer or strategy.server_optimizer
    one_of("--server-optimizer", server_optimizer, SERVER_OPTIMIZERS)
    optimizer = SERVER_OPTIMIZERS[server_optimizer]
    usual = strategy.weighting
    if usual == "examples" and plan.client_level:
        usual = "uniform"
    weighting = _weighting(plan, usual, reduce, reducer)
    weigher = WEIGHTINGS[weighting]
    options = {**reducer.options, **optimizer.options, **weigher.options}
    for name in options:
        given = getattr(plan, name)
        options[name] = strategy.options.get(name, options[name]) if given is None else given
    for name in sorted(typed - _NOT_OF_THE_RULE - options.keys()):
        parts = f"{reduce}, {server_optimizer}, {weighting}"
        raise UsageError(
            f"{option_of(name)}: is not an option of this rule ({parts})",
            hint="fedcli aggregate --list shows the options of every rule",
        )
    rule = Rule(
        plan.strategy, reduce, server_optimizer, weighting, options, reducer, optimizer, weigher
    )
    if optimizer.of_mean and not rule.adds_up:
        raise UsageError(
            f"--{'weighting' if reduce == 'mean' else 'reduce'}: {server_optimizer} is defined"
            " for the mean weighted by examples or uniform, not for"
            f" {reduce} with weighting {weighting}"
        )
    if plan.client_level:
        check_private_rule(rule)
    return rule


def _check_strategy(name: str) -> None:
    if ":" in name:
        hint = f"a function of your own is a reducer: --reduce {name}"
        raise unknown_value("--strategy", name, STRATEGIES).amended(hint=hint)
    one_of("--strategy", name, STRATEGIES)


def _reducer(name: str, typed: bool) -> Reducer:
    if ":" not in name:
        return REDUCERS[one_of("--reduce", name, REDUCERS)]
    if not typed:
        raise UsageError(
            f"--reduce: the run's plan names {name}, but only typed code is run",
            hint=f"add --reduce {name}",
        )
    function = load_attribute(name, "--reduce")
    if not callable(function):
        raise UsageError(f"--reduce {name}: expected a function, found {type(function).__name__}")
    return of_function(function, name)


def _weighting(plan: AggregatePlan, usual: str, reduce: str, reducer: Reducer) -> str:
    asked, allowed = plan.weighting, reducer.weightings or tuple(WEIGHTINGS)
    if asked is None and usual == "examples" and reducer.weightings:
        return allowed[0]
    if asked is None and usual in allowed:
        return usual
    weighting = one_of("--weighting", asked or usual, WEIGHTINGS)
    if weighting not in allowed:
        option, whose = "--weighting", ""
        if asked is None:  # the strategy chose it
            option, whose = "--reduce", f", the weighting of {plan.strategy}"
        raise UsageError(
            f"{option}: {reduce} is defined for {' or '.join(allowed)}, not for {weighting}{whose}"
        )
    return weighting


def check_encoding(train: TrainPlan, plan: AggregatePlan) -> None:
    """Raise ``UsageError`` for an encoding that the planned rule has no use for.

    A user's own function, which is named and not imported here, is taken to know what it gets.
    """
    strategy = STRATEGIES.get(plan.strategy)
    reduce = plan.reduce or (strategy.reduce if strategy else "")
    reducer = REDUCERS.get(reduce)
    if train.codec is None or not train.codec.sparse:
        return
    if reducer is not None and reducer.coordinate_wise:
        raise UsageError(
            f"--encode {train.encode}: leaves most coordinates 0, and {reduce} looks at each"
            " coordinate alone",
            hint="use an encoding of every coordinate, such as --encode int8, or a rule that weighs"
            " whole updates, such as --strategy rfa",
        )


def aggregate_options() -> dict[str, Declared]:
    """Return all options of section ``aggregate``, with their owners and defaults."""
    rows: Mapping[str, Any] = {**REDUCERS, **SERVER_OPTIMIZERS, **WEIGHTINGS}
    options = {}
    for name, one in declared(AggregatePlan).items():
        owners = {
            owner: replace(one, default=row.options[name])
            for owner, row in rows.items()
            if name in row.options
        }
        options[name] = owned(owners) if owners else one
    known = "`, `".join(SERVER_OPTIMIZERS)
    text = f"How the server steps towards the result: `{known}`."
    changes: dict[str, dict[str, Any]] = {
        "strategy": {"names": lambda: STRATEGIES},
        "reduce": {"names": lambda: REDUCERS},
        "weighting": {"names": lambda: WEIGHTINGS},
        "server_optimizer": {"names": lambda: SERVER_OPTIMIZERS, "help": text},
    }
    for name, changed in changes.items():
        one = options[name]
        options[name] = replace(one, option=replace(one.option, **changed))
    return options
