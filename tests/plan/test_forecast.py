"""What a plan will spend before a run, and the noise for a target."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.private import REPLACE, gaussian

from fedcli.cli import execute
from fedcli.errors import UsageError
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.forecast import forecast
from fedcli.privacy import epsilon_at

NOISE = TrainPlan(epochs=2, batch_size=50, dp="example", clip=1.0, noise_multiplier=3.0)
TARGET = TrainPlan.of(
    dp="example",
    clip=1.0,
    batch_size=50,
    epochs=1,
    delta=1e-5,
    target_epsilon=2.0,
    target_rounds=10,
)
Shown = dict[str, Any]


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Shown:
    capsys.readouterr()
    assert execute(["plan", "--privacy", "--json", *words]) == 0
    found: Shown = json.loads(capsys.readouterr().out)
    return found


def test_noise_gives_epsilon_after_each_number_of_rounds() -> None:
    found = forecast(Plan(train=NOISE), (20, 50, 20), (10, 1))
    assert (found.delta, found.rounds, found.target) == (1e-5, (1, 10), None)
    assert [(row.examples, row.q, row.sums) for row in found.rows] == [(20, 1, 2), (50, 1, 2)]
    once, ten = (epsilon_at([gaussian(3, 2 * n)], 1e-5) for n in (1, 10))
    assert found.rows[0].epsilon == pytest.approx((once, ten), rel=1e-12)


def test_samples_cost_less_than_sums_over_all() -> None:
    (few,) = forecast(Plan(train=NOISE), (400,), (1,)).rows
    (q, steps), (epsilon,) = (few.q, few.sums), few.epsilon
    assert 50 / 400 <= q < 50 / 400 * 2 ** (1 / 8)
    assert steps == 2 * 8
    assert epsilon is not None
    assert 0 < epsilon < epsilon_at([gaussian(3, steps)], 1e-5) / 2


def test_a_target_chooses_the_noise_of_examples_and_of_clients() -> None:
    found = forecast(Plan(train=TARGET), (20,), ())
    assert (found.rounds, found.target) == ((1, 10), 2.0)
    assert [(row.examples, row.sigma) for row in found.rows] == [(20, 6.31), (None, 6.31)]
    assert all(1.99 < (row.epsilon[1] or 0) <= 2.0 for row in found.rows)  # 6.30499 in the oracle


def test_the_relation_of_clients_counts() -> None:
    plan = Plan(aggregate=AggregatePlan(update_noise=5.0, update_clip=1.0, relation="replace"))
    (row,) = forecast(plan, (20,), (10,)).rows
    assert row.examples is None
    assert row.epsilon == pytest.approx((epsilon_at([gaussian(5, 10, REPLACE)], 1e-5),))


def test_a_plan_without_noise_has_no_forecast() -> None:
    with pytest.raises(UsageError, match="--privacy: this plan adds no noise"):
        forecast(Plan(), (20,), ())
    (row,) = forecast(
        Plan(train=TrainPlan.of(dp="example", noise_multiplier=0.0)), (20,), (1,)
    ).rows
    assert row.epsilon == (None,)


def test_the_command_takes_options_files_and_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--batch-size", "50", "--epochs", "2", "--noise-multiplier", "3", "--examples", "20"]
    found = shown(capsys, *typed, "--rounds", "1,10")
    expected = forecast(Plan(train=NOISE), (20,), (1, 10)).rows[0]
    assert found["rows"] == [
        {"examples": 20, "q": 1.0, "sums": 2, "sigma": 3.0, "epsilon": list(expected.epsilon)}
    ]
    file = tmp_path / "plan.toml"
    file.write_text('[train]\ndp = "example"\nclip = 9.0\nnoise_multiplier = 4.0\nepochs = 2\n')
    again = shown(capsys, "--plan", str(file), *typed, "--rounds", "1,10")
    assert again["rows"] == found["rows"]
    run = str(tmp_path / "run")
    made = ["partition", "--run", run, "--limit", "60", "--clients", "2", "--model", "linear"]
    made += ["--dp", "example", "--clip", "1", "--noise-multiplier", "4", "--epochs", "2"]
    assert execute([*made, "--batch-size", "100"]) == 0
    of_run = shown(capsys, "--of", run, "--noise-multiplier", "3", "--rounds", "1,10")
    assert [row["examples"] for row in of_run["rows"]] == [30]
    assert of_run["rows"][0]["epsilon"] == found["rows"][0]["epsilon"]


def test_clients_have_a_delta_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "--update-noise", "5", "--rounds", "10", "--delta", "1e-6")
    assert found["delta"] == 1e-6
    assert found["rows"][0]["epsilon"] == [epsilon_at([gaussian(5, 10)], 1e-6)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds", "3"], "--rounds: belongs to --privacy"),
        (["--delta", "0.1"], "--delta: belongs to --privacy"),
        (["--plan", "file"], "--plan: belongs to --privacy"),
        (["--privacy", "--schema"], "--schema: cannot be combined with --privacy"),
        (["--privacy", "--rounds", "0"], "--rounds: expected 1 or more"),
        (["--privacy", "--update-noise", "1", "--delta", "2"], "delta: expected more than 0"),
    ],
)
def test_options_of_it_need_it(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["plan", *words]) == 2
    assert said in capsys.readouterr().err
