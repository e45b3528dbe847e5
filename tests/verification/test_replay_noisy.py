"""Rounds that protect their clients are replayed by the holder of the noise key alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.noisy_runs import combine, noisy_run, send

from fedcli.formats.checkpoint import digest
from fedcli.run import Run
from fedcli.security.noise_key import NoiseKey, write_noise_key
from fedcli.steps.verify import VerifyResult, verify
from fedcli.verification.findings import Problem
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")
ADAPTIVE: dict[str, Any] = {"update_noise": 0.5, "adaptive_clip": 0.5, "strategy": "fedadam"}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Run, NoiseKey]:
    run, key = noisy_run(tmp_path / "run", **ADAPTIVE)
    for number in (1, 2):
        send(run, {"0": 0.01, "1": -0.02, "2": float("nan")}, number)
        combine(run, key)
    return run, key


def replayed(run: Run, key: NoiseKey | None) -> VerifyResult:
    return verify(run.root, replay=UserCode(noise_key=key))


def reasons(result: VerifyResult, problem: Problem) -> list[str]:
    return [found.message for found in result.findings if found.problem == problem]


def test_the_holder_of_the_key_replays_noise(made: tuple[Run, NoiseKey]) -> None:
    run, key = made
    result = replayed(run, key)
    (part,) = (part for part in result.parts if part.what == "aggregated again")
    assert (part.files, part.sound) == (2, 2)
    assert result.sound


def test_without_the_key_a_round_is_not_replayed(
    made: tuple[Run, NoiseKey], tmp_path: Path
) -> None:
    run, _ = made
    result = replayed(run, None)
    assert result.sound
    said = [line for line in reasons(result, Problem.NOT_REPLAYED) if "noise key" in line]
    needs = "it needs the noise key that run.json commits to; see --noise-key"
    assert said == [f"cannot be replayed: {needs}"] * 2
    other = write_noise_key(tmp_path / "other.key", outside=run.root)
    wrong = reasons(replayed(run, other), Problem.NOT_REPLAYED)
    assert sum("another noise key than that of --noise-key" in line for line in wrong) == 2


def test_a_manifest_that_hides_what_was_spent_differs(made: tuple[Run, NoiseKey]) -> None:
    run, key = made
    path = run.round(2).manifest
    values = json.loads(path.read_text())
    del values["privacy"][0]
    path.write_text(json.dumps(values))
    result = replayed(run, key)
    assert not result.sound
    assert "does not list what the round spent of privacy" in reasons(result, Problem.DIFFERS)


def test_noise_that_was_left_out_is_found(made: tuple[Run, NoiseKey], tmp_path: Path) -> None:
    run, key = made
    quiet = combine(run, round_number=2, force=True, options={"update_noise": 0.0})
    values = json.loads(run.round(2).manifest.read_text())
    values["client_level"] |= {"update_noise": 0.5, "count_noise": 0.5}
    run.round(2).manifest.write_text(json.dumps(values))
    assert quiet.sha256 == digest(run.round(2).global_model)
    differing = reasons(replayed(run, key), Problem.DIFFERS)
    assert any("differs when replayed" in line for line in differing)
