"""The encoding of a plan: one spelling, and what goes with it."""

from pathlib import Path
from typing import Any

import pytest
from support.runs import fedcli

from fedcli.cli.options.building import plan_from
from fedcli.errors import UsageError
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.rule import check_encoding
from fedcli.strategies import REDUCERS, STRATEGIES


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("float32", None),
        ("round=0.070", "round=0.07"),
        ("round=1", "round=1.0"),
        ("topk=1e-2", "topk=0.01,float32"),
        ("topk=.5,float16", "topk=0.5,float16"),
        ("sign", "sign"),
    ],
)
def test_an_encoding_has_one_spelling(given: str, kept: str | None) -> None:
    plan = TrainPlan.of(encode=given)
    assert plan.encode == kept
    assert TrainPlan.from_mapping(plan.as_json(), "it") == plan
    assert plan.as_json().get("encode") == kept


def test_a_plan_without_encoding_says_nothing_of_one() -> None:
    for options in ({}, {"encode": "float32"}, {"encode": "float32", "feedback": 0.0}):
        plan = TrainPlan.of(**options)
        assert plan.as_json() == TrainPlan().as_json()
        assert not plan.as_json().keys() & {"encode", "feedback"}
    assert "feedback" not in TrainPlan.of(encode="sign", feedback=0).as_json()


def test_another_encoding_keeps_the_feedback_and_float32_needs_none() -> None:
    plan = TrainPlan.of(encode="sign", feedback=0.5)
    assert plan.with_options({"encode": "int8"}).feedback == 0.5
    assert plan.with_options({"encode": "float32"}) == TrainPlan()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"feedback": 0.5}, "--feedback: needs --encode, because float32 loses nothing"),
        ({"encode": "float32", "feedback": 1.0}, "--feedback: needs --encode"),
        ({"encode": "sign", "feedback": 1.5}, "--feedback: expected a share from 0 to 1"),
        ({"encode": "sign", "feedback": -0.1}, "--feedback: expected a share from 0 to 1"),
        ({"encode": "round"}, "--encode: expected round=SHARE, found 'round'"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainPlan.of(**options)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("encode", ["round=0.07", "int8", "sign"])
def test_sparse_updates_need_a_rule_that_weighs_whole_updates(strategy: str, encode: str) -> None:
    train, plan = TrainPlan.of(encode=encode), AggregatePlan(strategy=strategy)
    refused = strategy in ("median", "trimmed-mean", "bulyan") and encode.startswith("round")
    if not refused:
        check_encoding(train, plan)
        return
    with pytest.raises(UsageError, match=f"and {strategy} looks at each coordinate alone") as error:
        check_encoding(train, plan)
    assert "--encode int8" in (error.value.hint or "")


def test_the_reducer_counts_and_not_the_name_of_the_strategy() -> None:
    train = TrainPlan.of(encode="topk=0.1")
    check_encoding(train, AggregatePlan(strategy="median", reduce="mean"))
    check_encoding(train, AggregatePlan(reduce="mine:rule"))  # which is not imported
    with pytest.raises(UsageError, match="trimmed-mean"):
        check_encoding(train, AggregatePlan(strategy="fedadam", reduce="trimmed-mean"))
    assert sum(row.coordinate_wise for row in REDUCERS.values()) == 3


def test_a_file_says_the_same_as_options() -> None:
    values = {"train": {"encode": "round=0.07", "feedback": 1}, "aggregate": {"strategy": "krum"}}
    plan = plan_from(values, "plan.toml")
    train = {"encode": "round=0.07", "feedback": 1.0}
    assert plan == Plan(TrainPlan.of(**train), AggregatePlan(strategy="krum"))
    with pytest.raises(UsageError, match=r"--encode round=0\.07: leaves most coordinates 0"):
        plan_from(values, "plan.toml", {}, {"strategy": "median"})


def test_every_command_refuses_before_anything_is_trained(tmp_path: Path) -> None:
    cut = ("--clients", 3, "--limit", 30, "--model", "linear", "--epochs", 1)
    words = ("partition", *cut, "--encode", "topk=0.1", "--strategy", "median")
    ended = fedcli(*words, cwd=tmp_path)
    assert (ended.status, "median looks at each coordinate alone" in ended.err) == (2, True)
    assert not (tmp_path / "fedrun").exists()
    assert fedcli("partition", *cut, "--strategy", "median", cwd=tmp_path).status == 0
    for command in (("run", "--rounds", 1), ("train-client", "--id", "0")):
        ended = fedcli(*command, "--encode", "topk=0.1", cwd=tmp_path)
        assert (ended.status, "median looks at each coordinate" in ended.err) == (2, True)
    assert not (tmp_path / "fedrun/rounds/0001").exists()
