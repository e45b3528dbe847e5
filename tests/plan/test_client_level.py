"""What a plan that protects clients may say."""

from pathlib import Path
from typing import Any

import pytest
from support.private import ADD_REMOVE, REPLACE

from fedcli.errors import BadInputError, UsageError
from fedcli.plan import AggregatePlan, Plan
from fedcli.plan.client_level import RELATIONS
from fedcli.plan.rule import resolve
from fedcli.privacy import PrivacyLimit
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.security.noise_key import write_noise_key
from fedcli.setup.start import Start
from fedcli.steps.init import init

CLIPPED = {"update_clip": 1.0, "update_noise": 0.5}


def test_relations_are_those_of_the_ledger() -> None:
    assert RELATIONS == (ADD_REMOVE, REPLACE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"update_clip": 1.0}, "--update-clip: needs --update-noise"),
        ({"relation": "replace"}, "--relation: needs --update-noise"),
        ({"update_divisor": 3.0}, "--update-divisor: needs --update-noise"),
        ({"adaptive_clip": 0.5}, "--adaptive-clip: needs --update-noise"),
        ({"update_noise": 1.0}, "--update-noise: needs --update-clip"),
        ({**CLIPPED, "clip_lr": 0.2}, "--clip-lr: belongs to --adaptive-clip"),
        ({**CLIPPED, "count_noise": 1.0}, "--count-noise: belongs to --adaptive-clip"),
        ({**CLIPPED, "max_norm": 1.0}, "--max-norm: tells which steps are longer"),
        ({**CLIPPED, "max_examples": 9}, "--max-examples: tells of the number of examples"),
        (
            {**CLIPPED, "adaptive_clip": 0.5, "count_noise": 0.25},
            "--count-noise: expected more than half of --update-noise 0.5",
        ),
        (
            {"update_noise": 0.0, "adaptive_clip": 0.5, "count_noise": 0.25},
            "--count-noise: expected more than half",
        ),
        ({"update_max_epsilon": 1.0}, "--update-max-epsilon: needs --update-noise"),
        ({**CLIPPED, "update_max_epsilon": 1.0}, "--update-max-epsilon and --update-delta: give"),
        ({**CLIPPED, "update_delta": 0.1}, "--update-max-epsilon and --update-delta: give both"),
        ({**CLIPPED, "relation": "both"}, "--relation: unknown value 'both'"),
        ({**CLIPPED, "update_noise": -1.0}, "--update-noise: expected a number from 0 to 1e6"),
    ],
)
def test_a_plan_that_hides_nobody_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        AggregatePlan(**options)
    assert refused.value.message.startswith(said)


def test_a_limit_is_no_option_of_the_rule() -> None:
    plan = AggregatePlan(**CLIPPED, update_max_epsilon=8.0, update_delta=1e-5)
    assert plan.privacy_limit == PrivacyLimit(8.0, 1e-5, "--update-max-epsilon")
    assert plan.client_level == CLIPPED
    assert plan.with_options({"strategy": "fedadam"}).privacy_limit == plan.privacy_limit
    assert AggregatePlan(**CLIPPED).privacy_limit is None


def test_noise_of_the_count_may_be_left_out_without_noise() -> None:
    AggregatePlan(update_noise=0.0, adaptive_clip=0.5, count_noise=0.0)
    AggregatePlan(**CLIPPED, adaptive_clip=0.5, count_noise=0.26)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            {"strategy": "median"},
            "--reduce: is impossible with --update-noise: median is not a sum",
        ),
        ({"strategy": "clipped-mean", "clip_norm": 1.0}, "--reduce: "),
        ({"weighting": "examples"}, "--weighting: "),
        ({"strategy": "qfedavg"}, "--weighting: "),
        ({"strategy": "fedbuff"}, "--weighting: "),
        ({"strategy": "scaffold"}, "--server-optimizer: "),
    ],
)
def test_rules_that_use_updates_without_noise_are_refused(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve(AggregatePlan(**rule, **CLIPPED))
    assert refused.value.message.startswith(said)


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedadam", "fedyogi", "feddyn"])
def test_server_optimizers_are_post_processing_of_a_uniform_mean(strategy: str) -> None:
    rule = resolve(AggregatePlan(strategy, **CLIPPED))
    assert (rule.reduce, rule.weighting) == ("mean", "uniform")
    assert resolve(AggregatePlan("fedavg")).weighting == "examples"


def test_another_strategy_keeps_what_hides_clients() -> None:
    plan = AggregatePlan(**CLIPPED, server_lr=0.5).with_options({"strategy": "fedadam"})
    assert plan == AggregatePlan("fedadam", **CLIPPED)
    assert plan.client_level == CLIPPED


def private_start(model: str = "linear") -> Start:
    return Start(ModelInfo(model), plan=Plan(aggregate=AggregatePlan(**CLIPPED)))


def test_a_run_commits_to_its_noise_key(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with pytest.raises(UsageError, match="the run commits to; name it with --noise-key"):
        init(root, ["a", "b"], image_size=4, start=private_start())
    assert not root.exists()
    key = write_noise_key(tmp_path / "noise.key", outside=root)
    init(root, ["a", "b"], image_size=4, start=private_start(), noise_key=key.path)
    run = Run.open(root)
    assert run.info.noise_key == key.commitment
    assert key.commitment in (root / "run.json").read_text()
    assert init(root, ["a", "b"], image_size=4, start=private_start(), noise_key=key.path)
    for path in filter(Path.is_file, root.rglob("*")):
        assert key._secret not in path.read_bytes()


def test_a_commitment_is_a_digest(tmp_path: Path) -> None:
    key = write_noise_key(tmp_path / "noise.key", outside=tmp_path / "run")
    init(tmp_path / "run", ["a", "b"], image_size=4, start=private_start(), noise_key=key.path)
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace(key.commitment, key.commitment[:-1]))
    with pytest.raises(BadInputError, match="noise_key: expected a SHA-256 of 64 hex digits"):
        Run.open(tmp_path / "run")


def test_buffers_are_refused_before_there_is_a_run(tmp_path: Path) -> None:
    root = tmp_path / "run"
    key = write_noise_key(tmp_path / "noise.key", outside=root)
    with pytest.raises(UsageError, match=r"--update-noise: the tensor .* is a buffer") as refused:
        init(root, ["a", "b"], image_size=32, start=private_start("resnet18"), noise_key=key.path)
    assert "--norm group" in (refused.value.hint or "")
    assert not root.exists()
