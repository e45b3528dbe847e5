"""From typed options to what steps take."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fedcli.errors import UsageError
from fedcli.options import NONE, Given, declared

if TYPE_CHECKING:
    from fedcli.partitioning.schemes import Scheme
    from fedcli.plan import Plan
    from fedcli.plan.secagg import SecaggOptions
    from fedcli.setup.start import Start


def make_scheme(typed: Given) -> "Scheme":
    """Build the scheme that options ask for, or the first that uses them.

    Raises ``UsageError`` for an option that the scheme does not use.
    """
    from fedcli.partitioning.schemes import Scheme, scheme_for

    given = dict(typed)
    name = given.pop("name", None) or scheme_for(given.keys() - declared(Scheme.__init__).keys())
    return Scheme(name, **given)


def check_nothing_cut(data: Given, cutting: Given) -> None:
    """Raise ``UsageError`` for options of data and cutting beside ``--data-of``."""
    from fedcli.partitioning.schemes import scheme_options
    from fedcli.setup.data_source import data_options

    known = {**data_options(), **scheme_options()}
    if given := [known[name].words for name in (*data, *cutting)]:
        raise UsageError(
            f"{given[0]}: --data-of takes the clients and examples of another run as they are"
        )


def make_start(typed: Given, plan: "Plan", seed: int, secagg: "SecaggOptions") -> "Start":
    """Build what a new run starts from. Raises ``UsageError``."""
    from fedcli.run.info import ModelInfo
    from fedcli.setup.start import Start

    network = {name: value for name, value in typed.items() if name in declared(ModelInfo)}
    others = {name: value for name, value in typed.items() if name not in network}
    return Start(ModelInfo(**network), plan=plan, seed=seed, secagg=secagg, **others)


def plan_from(
    values: Mapping[str, Any], origin: str, training: Given = NONE, aggregation: Given = NONE
) -> "Plan":
    """Build a plan of the tables of a file, and options that win over them.

    Raises ``UsageError``, also for a rule of aggregation that does not exist.
    """
    from fedcli.plan import Plan, asks_for_rule, check_halves
    from fedcli.plan.rule import check_encoding, resolve

    asked = asks_for_rule(values.get("aggregate", {}))
    plan = Plan.from_mapping(values, origin)
    plan = plan.with_options(training, aggregation, rule_asked_for=asked)
    rule = resolve(plan.aggregate, aggregation.keys())
    check_halves(plan.train, rule.server_optimizer)
    check_encoding(plan.train, plan.aggregate)
    if rule.weigher.needs_initial_loss and "initial_loss" not in training:
        plan = replace(plan, train=replace(plan.train, initial_loss=True))
    return plan
