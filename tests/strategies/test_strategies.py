"""Named strategies, their parts, and which options and combinations there are."""

import itertools
from dataclasses import fields

import numpy as np
import pytest

from fedcli.errors import ExitStatus, UsageError
from fedcli.plan import AggregatePlan
from fedcli.plan.client_level import BUDGET, CLIENT_LEVEL
from fedcli.plan.rule import resolve
from fedcli.strategies import REDUCERS, SERVER_OPTIMIZERS, STRATEGIES, WEIGHTINGS, Rule
from fedcli.strategies.decision import Clients, CoordinateWiseDecision, Measures, Shares

OPTIONS = {part.name for part in fields(AggregatePlan)} - {
    *("strategy", "reduce", "server_optimizer", "weighting"),
    *("clients_per_round", "fraction", "max_norm", "max_examples"),
    *("encode_global", "feedback_global", *CLIENT_LEVEL, *BUDGET),
}


OF_MEAN = {"scaffold", "feddyn"}


def parts(rule: Rule) -> tuple[str, str, str]:
    return rule.reduce, rule.server_optimizer, rule.weighting


@pytest.mark.parametrize(
    ("name", "expected", "options"),
    [
        ("fedavg", ("mean", "sgd", "examples"), {"server_lr": 1.0, "server_momentum": 0.0}),
        ("fedavgm", ("mean", "sgd", "examples"), {"server_lr": 1.0, "server_momentum": 0.9}),
        # Reddi et al. 2021: β₁ = 0 for FedAdagrad; else 0.9, and β₂ = 0.99.
        ("fedadagrad", ("mean", "adagrad", "examples"), {"beta1": 0.0, "tau": 1e-3}),
        ("fedadam", ("mean", "adam", "examples"), {"beta1": 0.9, "beta2": 0.99, "tau": 1e-3}),
        ("fedyogi", ("mean", "yogi", "examples"), {"beta1": 0.9, "beta2": 0.99, "tau": 1e-3}),
        ("median", ("median", "sgd", "uniform"), {}),
        ("trimmed-mean", ("trimmed-mean", "sgd", "uniform"), {"trim": 0.2}),
        ("krum", ("krum", "sgd", "uniform"), {"byzantine": None}),
        ("multi-krum", ("multi-krum", "sgd", "uniform"), {"byzantine": None, "keep": None}),
        ("bulyan", ("bulyan", "sgd", "uniform"), {"byzantine": None}),
        ("rfa", ("rfa", "sgd", "uniform"), {"smoothing": 1e-6}),
        ("clipped-mean", ("clipped-mean", "sgd", "uniform"), {"clip_norm": None}),
        ("centered-clipping", ("centered-clipping", "sgd", "uniform"), {"iterations": 1}),
        ("foolsgold", ("foolsgold", "sgd", "uniform"), {}),
        ("qfedavg", ("mean", "sgd", "qfedavg"), {"q": 1.0}),
        ("fednova", ("mean", "sgd", "fednova"), {}),
        ("fedbuff", ("mean", "sgd", "staleness"), {"max_staleness": 4, "buffer": None}),
        ("scaffold", ("mean", "scaffold", "uniform"), {"server_lr": 1.0}),
        ("feddyn", ("mean", "feddyn", "uniform"), {}),
    ],
)
def test_a_strategy_is_a_name_for_its_parts_and_their_defaults(name, expected, options):
    rule = resolve(AggregatePlan(name))
    assert parts(rule) == expected
    assert options.items() <= rule.options.items()


def test_every_rule_has_one_line_and_its_paper():
    for table in (STRATEGIES, REDUCERS, SERVER_OPTIMIZERS, WEIGHTINGS):
        for name, row in table.items():
            assert row.summary, name
            assert "\n" not in row.summary
            assert any(character.isdigit() for character in row.source), name


def test_every_reducer_is_a_strategy_and_goes_with_every_server_optimizer_but_those_of_means():
    assert REDUCERS.keys() - STRATEGIES.keys() == {"mean"}
    for reduce, optimizer in itertools.product(REDUCERS, SERVER_OPTIMIZERS.keys() - OF_MEAN):
        rule = resolve(
            AggregatePlan(reduce=reduce, server_optimizer=optimizer),
            frozenset({"reduce", "server_optimizer"}),
        )
        assert parts(rule)[:2] == (reduce, optimizer)
        assert rule.options.keys() <= OPTIONS
        assert rule.measures >= REDUCERS[reduce].measures


@pytest.mark.parametrize("optimizer", sorted(OF_MEAN))
def test_scaffold_and_feddyn_are_of_means_that_add_up(optimizer):
    for reduce, weighting in itertools.product(REDUCERS, (None, *WEIGHTINGS)):
        if (
            weighting
            and REDUCERS[reduce].weightings
            and weighting not in REDUCERS[reduce].weightings
        ):
            continue
        plan = AggregatePlan(reduce=reduce, server_optimizer=optimizer, weighting=weighting)
        if reduce == "mean" and weighting in (None, "examples", "uniform"):
            assert parts(resolve(plan)) == (reduce, optimizer, weighting or "examples")
            continue
        wrong = "weighting" if reduce == "mean" else "reduce"
        with pytest.raises(UsageError, match=f"^--{wrong}: {optimizer} is .* mean .*{reduce}"):
            resolve(plan)


def test_every_option_belongs_to_a_rule():
    rows = [*REDUCERS.values(), *SERVER_OPTIMIZERS.values(), *WEIGHTINGS.values()]
    assert set().union(*(row.options for row in rows)) == OPTIONS


@pytest.mark.parametrize(
    ("strategy", "option", "value"),
    [
        ("fedavg", "trim", 0.1),
        ("median", "byzantine", 1),
        ("krum", "keep", 2),
        ("fedadagrad", "beta2", 0.9),
        ("fedadam", "server_momentum", 0.9),
        ("fedavg", "q", 2.0),
        ("qfedavg", "buffer", 3),
    ],
)
def test_an_option_of_another_rule_is_refused_where_it_is_typed(strategy, option, value):
    plan = AggregatePlan(strategy, **{option: value})
    assert option not in resolve(plan).options  # of the plan, where other rules may use it
    with pytest.raises(UsageError, match=f"^--{option.replace('_', '-')}: ") as refused:
        resolve(plan, frozenset({option}))
    assert all(part in refused.value.message for part in parts(resolve(plan)))
    assert "aggregate --list" in (refused.value.hint or "")


def test_who_takes_part_goes_with_every_rule():
    for strategy in STRATEGIES:
        resolve(AggregatePlan(strategy, fraction=0.5), frozenset({"strategy", "fraction"}))
        resolve(AggregatePlan(strategy, clients_per_round=3), frozenset({"clients_per_round"}))


def test_what_is_asked_for_comes_before_the_strategys_default():
    assert resolve(AggregatePlan("fedavgm", server_momentum=0.5)).options["server_momentum"] == 0.5
    assert resolve(AggregatePlan("fedavgm", server_momentum=0.0)).replaces({})
    assert resolve(AggregatePlan("fedadam", bias_correction=True)).options["bias_correction"]
    mixed = resolve(AggregatePlan("fedavgm", server_optimizer="adam", reduce="median", beta1=0.0))
    assert parts(mixed) == ("median", "adam", "uniform")
    assert mixed.options == {
        "server_lr": 0.01,
        "beta1": 0.0,
        "beta2": 0.99,
        "tau": 1e-3,
        "bias_correction": False,
    }


@pytest.mark.parametrize(
    ("plan", "option"),
    [
        (AggregatePlan("fedprox"), "--strategy"),
        (AggregatePlan(reduce="average"), "--reduce"),
        (AggregatePlan(server_optimizer="adamw"), "--server-optimizer"),
        (AggregatePlan(weighting="size"), "--weighting"),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_are_known(plan, option):
    with pytest.raises(UsageError, match=f"^{option}: unknown value .*; known: ") as refused:
        resolve(plan)
    assert refused.value.status == ExitStatus.USAGE == 2


def test_a_weighting_is_refused_by_rules_that_are_not_defined_for_it():
    refused_by = {
        reduce: {
            weighting
            for weighting in WEIGHTINGS
            if REDUCERS[reduce].weightings and weighting not in REDUCERS[reduce].weightings
        }
        for reduce in REDUCERS
    }
    assert refused_by["mean"] == refused_by["clipped-mean"] == set()
    assert {"examples", "qfedavg", "fednova", "staleness"} == refused_by["krum"]
    assert {"qfedavg", "fednova", "staleness"} == refused_by["rfa"]
    for reduce, weighting in itertools.product(REDUCERS, WEIGHTINGS):
        plan = AggregatePlan(reduce=reduce, weighting=weighting)
        if weighting in refused_by[reduce]:
            with pytest.raises(UsageError, match=f"--weighting: {reduce} .*, not for {weighting}"):
                resolve(plan)
        else:
            assert resolve(plan).weighting == weighting


def test_another_reducer_brings_its_weighting_unless_the_weighting_makes_the_strategy():
    for strategy, reduce in itertools.product(STRATEGIES.keys() - OF_MEAN, REDUCERS):
        usual, allowed = STRATEGIES[strategy].weighting, REDUCERS[reduce].weightings
        plan = AggregatePlan(strategy, reduce)
        if usual == "examples" and allowed:
            assert resolve(plan).weighting == "uniform"
        elif not allowed or usual in allowed:
            assert resolve(plan).weighting == usual
        else:
            with pytest.raises(UsageError, match=f"^--reduce: {reduce} .* {usual}.* {strategy}$"):
                resolve(plan)
    with pytest.raises(UsageError, match=r"median is defined for uniform, not for staleness"):
        resolve(AggregatePlan("fedbuff", "median"))


def test_a_rule_measures_no_more_than_one_of_its_parts_needs():
    needs = {name: resolve(AggregatePlan(name)).measures for name in STRATEGIES}
    assert {name for name, need in needs.items() if need == Measures.SQUARES} == {
        "clipped-mean",
        "qfedavg",
    }
    assert {name for name, need in needs.items() if need == Measures.DISTANCES} == {
        *("krum", "multi-krum")
    }
    assert {name for name, need in needs.items() if need == Measures.GRAM} == {
        *("bulyan", "rfa", "centered-clipping", "foolsgold")
    }


def test_only_what_the_next_round_needs_is_kept():
    slots = {name: set(resolve(AggregatePlan(name)).slots()) for name in STRATEGIES}
    assert {name: kept for name, kept in slots.items() if kept} == {
        "fedavgm": {"momentum"},
        "fedadagrad": {"variance"},
        "fedadam": {"momentum", "variance"},
        "fedyogi": {"momentum", "variance"},
        "centered-clipping": {"center"},
        "scaffold": {"control"},
        "feddyn": {"dual"},
    }
    both = resolve(AggregatePlan("centered-clipping", server_optimizer="adam", tau=0.1))
    assert both.slots() == pytest.approx({"momentum": 0, "variance": 0.01, "center": 0})


@pytest.fixture
def own_rules(tmp_path, monkeypatch):
    """A module of the user's in the current directory, by a name that no other test uses."""
    (tmp_path / "rules_of_test_strategies.py").write_text(
        "def mean(values, shares):\n    return shares @ values\n"
        "def whole(values, shares):\n    return values\n"
        "def rounded(values, shares):\n    return (shares @ values).astype(int)\n"
        "not_a_function = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "rules_of_test_strategies"


def own(module, function, **values):
    plan = AggregatePlan(reduce=f"{module}:{function}", **values)
    return resolve(plan, frozenset({"reduce"}))


def decided(rule):
    clients = Clients(Shares(np.array([1.0, 3.0]), 4.0))
    decision = rule.reducer.decide(clients, rule.reducer.prepare(2, rule.options))
    assert isinstance(decision, CoordinateWiseDecision)
    assert decision.kept == (0, 1)
    return decision.combine(np.array([[0.0, 4.0, 8.0], [4.0, 0.0, -8.0]], np.float32))


def test_a_function_of_ones_own_is_given_values_and_shares(own_rules):
    rule = own(own_rules, "mean", server_optimizer="adam")
    assert parts(rule) == (f"{own_rules}:mean", "adam", "examples")
    combined = decided(rule)
    assert combined.tolist() == [3, 1, -4]
    assert combined.dtype == np.float64


@pytest.mark.parametrize(
    ("function", "found"), [("whole", r"float64 of shape \[2, 3\]"), ("rounded", "int64 of shape")]
)
def test_a_function_that_returns_something_else_is_refused(own_rules, function, found):
    with pytest.raises(UsageError, match=rf"{function}: expected floats of shape \[3\], .*{found}"):
        decided(own(own_rules, function))


def test_code_is_run_only_when_its_name_is_typed(own_rules):
    named = AggregatePlan(reduce=f"{own_rules}:mean")
    for typed in (frozenset(), frozenset({"server_lr"})):
        with pytest.raises(UsageError, match="only typed code is run") as refused:
            resolve(named, typed)
        assert refused.value.hint == f"add --reduce {own_rules}:mean"
    for function in ("not_a_function", "nothing"):
        with pytest.raises(UsageError, match=f"--reduce {own_rules}:{function}: "):
            own(own_rules, function)


def test_another_strategy_starts_from_its_own_defaults():
    plan = AggregatePlan("fedadam", tau=0.1, server_lr=0.5, clients_per_round=3)
    assert plan.with_options({"strategy": "fedyogi"}) == AggregatePlan(
        "fedyogi", clients_per_round=3
    )
    assert plan.with_options({"strategy": "fedadam", "tau": 0.2}) == AggregatePlan(
        "fedadam", tau=0.2, server_lr=0.5, clients_per_round=3
    )
    assert plan.with_options({"strategy": "fedyogi", "tau": 0.2}).tau == 0.2
    assert plan.with_options({"reduce": "median", "strategy": None}).server_lr == 0.5
    assert plan.with_options({}) == plan
    assert plan.with_options({"bias_correction": False}).bias_correction is False


def test_a_share_of_clients_and_a_number_of_them_replace_each_other():
    by_number, by_share = AggregatePlan(clients_per_round=3), AggregatePlan(fraction=0.5)
    assert by_number.with_options({"fraction": 0.5}) == by_share
    assert by_share.with_options({"clients_per_round": 3}) == by_number
    assert by_share.with_options({"strategy": "krum"}).fraction == 0.5
    for plan in (by_number, by_share):
        with pytest.raises(UsageError, match="give one of them"):
            plan.with_options({"clients_per_round": 3, "fraction": 0.5})


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        *(("trim", value) for value in (-0.1, 0.5, float("nan"))),
        *(("fraction", value) for value in (0.0, 1.01, float("nan"))),
        *((name, 0) for name in ("keep", "iterations", "buffer", "clients_per_round")),
        *(
            (name, value)
            for name in ("clip_norm", "smoothing", "server_lr", "tau")
            for value in (0.0, -1.0, float("inf"), float("nan"))
        ),
        *(
            (name, value)
            for name in ("beta1", "beta2", "server_momentum")
            for value in (1.0, -0.1, float("nan"))
        ),
        *((name, -1) for name in ("byzantine", "max_staleness")),
        *(("q", value) for value in (-1.0, float("inf"))),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_option(option, wrong):
    with pytest.raises(UsageError, match=f"^--{option.replace('_', '-')}: expected .*, found"):
        AggregatePlan().with_options({option: wrong})
