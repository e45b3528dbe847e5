"""Rounds of a masked run whose members add noise: what the global model shows of them."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.masked_runs import MEMBERS, ONE_THREAD, MaskedRun, masked_run

from fedcli.cli import execute
from fedcli.errors import BudgetError, ConflictError, UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.ledger import Mechanism, PrivacyEvent, Relation
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind
from fedcli.partitioning.schemes import Scheme
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.secagg import SecaggOptions
from fedcli.privacy import budget
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.security.noise_key import write_noise_key
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.aggregate import aggregate
from fedcli.steps.close import close_round
from fedcli.steps.init import init
from fedcli.steps.partition import partition
from fedcli.steps.train_client import train_client
from fedcli.steps.unmask import unmask
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import UserCode

Runs = Callable[[str], MaskedRun]


class Told(Silence):
    """What a step says to whoever runs it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


SIGMA, CLIP, THRESHOLD = 2.0, 0.3, 3
SIGNIFICANT = 5.0  # standard deviations, of a draw that is the same in every run of the tests
NOISY = AggregatePlan(update_clip=CLIP, update_noise=SIGMA)
SHORT = replace(NOISY, update_noise=0.0)
FIVE = {"update_divisor": 5.0, "relation": "replace"}
RUNS = {
    "noisy": (NOISY, "abcd"),
    "short": (SHORT, "abcd"),
    "noisy without a": (replace(NOISY, **FIVE), "bcd"),
    "short without a": (replace(SHORT, **FIVE), "bcd"),
    "plain": (AggregatePlan(), "abcd"),
    "unbounded": (AggregatePlan(update_noise=0.0), "abcd"),
    "wide": (replace(SHORT, update_clip=1000.0), "abcd"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], MaskedRun]:
    """Return a function that makes one of these runs, once, and finishes its first round."""

    @cache
    def make(name: str) -> MaskedRun:
        rule, trained = RUNS[name]
        made = masked_run(tmp_path_factory.mktemp("run"), rule=rule)
        made.finish(trained)
        return made

    return make


def values(path: Path, kind: Kind = Kind.GLOBAL) -> np.ndarray:
    with Checkpoint(path, kind) as file:
        tensors, _ = file.tensors_and_digest()
    return np.concatenate([tensors[name].reshape(-1) for name in sorted(tensors)]).astype(float)


def step(made: MaskedRun) -> np.ndarray:
    return values(made.round.global_model) - values(made.run.round(0).global_model)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One round of a simulation, which has the keys of its members."""
    plan = Plan(TrainPlan(epochs=None, steps=2, batch_size=8), NOISY)
    start = Start(ModelInfo("linear"), plan=plan, secagg=SecaggOptions(secagg=True))
    root = tmp_path_factory.mktemp("simulation") / "fedrun"
    partition(root, DataSource(limit=40), Scheme("iid", clients=3), start)
    run = Run.open(root)
    train_client(run, ["all"], execution=ONE_THREAD)
    close_round(run)
    for client in run.info.clients:
        unmask(run, client)
    aggregate(run)
    return run


@pytest.mark.parametrize(("which", "survivors", "divisor"), [("", 4, 4.0), (" without a", 3, 5.0)])
def test_the_model_gets_the_noise_of_its_survivors(
    finished: Runs, which: str, survivors: int, divisor: float
) -> None:
    """Its standard deviation is σC √(survivors / t) / D, and D is a constant of the plan."""
    short = step(finished(f"short{which}"))
    noise = step(finished(f"noisy{which}")) - short
    std = SIGMA * CLIP * math.sqrt(survivors / THRESHOLD) / divisor
    square = float(((noise / std) ** 2).sum())
    assert abs(square - noise.size) < SIGNIFICANT * math.sqrt(2 * noise.size)
    assert 0 < np.linalg.norm(short) <= CLIP * survivors / divisor


def test_without_clipping_and_noise_the_sum_is_that_of_plain_masked_updates(finished: Runs) -> None:
    plain, unbounded = finished("plain"), finished("unbounded")
    sums = [values(made.round.masked_sum, Kind.PARTIAL) for made in (plain, unbounded)]
    assert sums[0].tobytes() == sums[1].tobytes()
    assert step(plain).tobytes() == step(unbounded).tobytes()


def test_a_norm_beyond_all_steps_changes_nothing(finished: Runs) -> None:
    assert step(finished("wide")).tobytes() == step(finished("plain")).tobytes()


def test_a_member_of_any_size_moves_the_model_by_c_over_d(finished: Runs, tmp_path: Path) -> None:
    """Whatever one member sends, the model without noise moves by at most 2C/D."""
    hostile, told = masked_run(tmp_path, rule=SHORT), Told()
    hostile.train("a", options={"lr": 1e4}, progress=told)
    assert "client a: its step of norm" in told.lines[-1]
    assert told.lines[-1].endswith("was shortened to 0.3")
    hostile.finish("bcd")
    moved = np.linalg.norm(step(hostile) - step(finished("short")))
    assert 0 < moved <= 2 * CLIP / len(MEMBERS)


def test_a_member_gets_the_same_bytes_again(tmp_path: Path) -> None:
    made = masked_run(tmp_path, rule=NOISY)
    first = made.train("a").sha256
    assert made.train("a").already_done
    assert made.train("a", force=True).sha256 == first


def test_the_manifest_says_what_a_round_spent(finished: Runs) -> None:
    made = finished("noisy without a")
    manifest = Manifest.read(made.round.manifest)
    assert manifest is not None
    (entry,) = manifest.privacy
    assert (entry.run, entry.round, entry.attempt) == (made.run.id, 1, 1)
    assert entry.event == PrivacyEvent(
        Mechanism.DISCRETE,
        sigma=SIGMA,
        clip=CLIP,
        divisor=5.0,
        relation=Relation.REPLACE,
        grid=0.25 / 2**17,
        coordinates=386,
        parties=THRESHOLD,
    )
    as_gaussian = PrivacyEvent(Mechanism.GAUSSIAN, SIGMA, CLIP, 5.0, Relation.REPLACE)
    cost, least = (budget([event], delta=1e-5).epsilon for event in (entry.event, as_gaussian))
    assert least <= cost < least + 1e-4


def test_another_use_of_the_same_sum_spends_nothing(simulated: Run, tmp_path: Path) -> None:
    """Unlike noise that the coordinator draws, it does not depend on what comes after it."""
    run = Run.open(Path(shutil.copytree(simulated.root, tmp_path / "fedrun")))
    first = Manifest.read(run.round(1).manifest)
    aggregate(run, round_number=1, options={"server_lr": 0.5}, force=True)
    second = Manifest.read(run.round(1).manifest)
    assert first is not None
    assert second is not None
    assert first.global_model != second.global_model
    assert first.privacy == second.privacy
    assert len(first.privacy) == 1


def test_shortening_alone_gives_no_privacy_and_says_so(finished: Runs) -> None:
    manifest = Manifest.read(finished("short").round.manifest)
    assert manifest is not None
    assert budget([entry.event for entry in manifest.privacy], delta=1e-5).epsilon == math.inf
    for name in ("plain", "unbounded"):
        assert Manifest.read(finished(name).round.manifest).privacy == ()


@pytest.mark.parametrize("name", ["noisy", "noisy without a", "unbounded"])
def test_a_round_can_be_replayed_by_anybody(finished: Runs, name: str) -> None:
    assert replayed(finished(name).run, "aggregated again") == (1, 1)


def replayed(run: Run, what: str) -> tuple[int, int]:
    """How many files of a kind were replayed, and how many of them are sound."""
    parts = verify(run.root, replay=UserCode()).parts
    return next(((one.files, one.sound) for one in parts if one.what == what), (0, 0))


def test_updates_with_noise_are_replayed_by_who_has_the_keys(simulated: Run) -> None:
    assert replayed(simulated, "trained again") == (3, 3)
    assert replayed(simulated, "aggregated again") == (1, 1)


def test_neither_reports_nor_aggregate_say_that_masked_updates_are_left_out(
    simulated: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("report", "aggregate --round 1"):
        name, *words = command.split()
        assert execute([name, "--run", str(simulated.root), *words]) == 0
        said = capsys.readouterr().out
        assert "partial mean already" not in said
        assert "rejected" not in said


def test_run_has_no_use_for_a_noise_key(
    simulated: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = write_noise_key(tmp_path / "noise.key", outside=simulated.root).path
    words = ["run", "--run", str(simulated.root), "--rounds", "2", "--noise-key", str(key)]
    assert execute(words) == 2
    assert "--noise-key: has no use with --secagg" in capsys.readouterr().err


def test_a_replay_finds_a_key_that_was_replaced(simulated: Run, tmp_path: Path) -> None:
    """The noise follows from the key, and so do the masks."""
    copy = Path(shutil.copytree(simulated.root, tmp_path / "fedrun"))
    own, other = (simulated.member_key(client).read_bytes() for client in ("0", "1"))
    run = Run.open(copy)
    run.member_key("0").write_bytes(other)
    assert own != other
    assert replayed(run, "trained again") == (3, 2)


def test_the_coordinator_needs_no_noise_key(finished: Runs, tmp_path: Path) -> None:
    made = finished("noisy")
    assert made.aggregate().already_done
    key = write_noise_key(tmp_path / "noise.key", outside=made.run.root).path
    with pytest.raises(UsageError, match="--noise-key: has no use with --secagg"):
        made.aggregate(noise_key=key)


def test_what_members_have_done_cannot_be_asked_of_the_coordinator(finished: Runs) -> None:
    made = finished("noisy")
    for option, value in (("update_clip", 1.0), ("update_noise", 0.0)):
        name = f"--{option.replace('_', '-')}"
        with pytest.raises(UsageError, match=f"{name}: members of a masked run"):
            made.aggregate(options={option: value}, force=True)
    with pytest.raises(ConflictError, match="--update-divisor 4, not 8"):
        made.aggregate(options={"update_divisor": 8.0})


def test_a_run_with_masks_commits_to_no_noise_key(tmp_path: Path) -> None:
    key = write_noise_key(tmp_path / "noise.key", outside=tmp_path / "fedrun").path
    start = Start(ModelInfo("linear"), secagg=SecaggOptions(secagg=True))
    with pytest.raises(UsageError, match="--noise-key: has no use with --secagg"):
        init(tmp_path / "fedrun", ("x", "y"), noise_key=key, start=start)
    assert not (tmp_path / "fedrun").exists()


def test_a_grid_too_coarse_for_the_model_is_refused_when_the_run_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--secagg-bits: rounding 386 values"):
        masked_run(tmp_path, rule=replace(NOISY, update_noise=5.0), secagg_bits=5)
    assert not (tmp_path / "fedrun").exists()


def test_an_update_says_what_was_added(finished: Runs) -> None:
    """Or the coordinator could not refuse one that was made otherwise than planned."""
    with Checkpoint(finished("noisy").round.update("a"), Kind.UPDATE) as file:
        encoding = dict(file.metadata.encoding or {})
    assert (encoding["norm"], encoding["noise"], encoding["parties"]) == (CLIP, SIGMA, THRESHOLD)


def test_a_round_that_would_pass_the_limit_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    """To the member that would mask for it, also if it has no manifest, and to who closes it."""
    one = PrivacyEvent(Mechanism.GAUSSIAN, SIGMA, CLIP, 4.0, Relation.ADD_REMOVE)
    most = 1.001 * budget([one], delta=1e-5).epsilon
    limited = replace(NOISY, update_max_epsilon=most, update_delta=1e-5)
    made = masked_run(tmp_path, rule=limited)
    made.finish()
    second = made.run.round(2)
    for _ in range(2):
        with pytest.raises(BudgetError, match=r"would spend ε = 2\.943 .* --update-max-epsilon"):
            made.train("a")
        made.round.manifest.unlink(missing_ok=True)
    assert not second.path.exists()


def test_no_list_is_signed_beyond_the_limit(tmp_path: Path) -> None:
    made = masked_run(tmp_path, rule=NOISY)
    for member in MEMBERS:
        made.train(member)
    info = made.run.info
    rule = replace(info.plan.aggregate, update_max_epsilon=0.5, update_delta=1e-5)
    strict = Run(made.run.root, replace(info, plan=replace(info.plan, aggregate=rule)), made.run.id)
    with pytest.raises(BudgetError):
        replace(made, run=strict).close()
    assert not made.round.survivors.exists()
    assert made.close().needed == THRESHOLD
