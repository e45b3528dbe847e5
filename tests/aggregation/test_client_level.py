"""Differential privacy at the level of clients: clipping, noise, and what files tell."""

import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.behind_faults import Commands, restore
from support.encoded import encode_update
from support.handmade import copied, loaded, same_bits, snapshot
from support.noisy_runs import combine, manifest_of, model, moved, noisy_run, send
from support.private import ADD_REMOVE, REPLACE, gaussian
from support.runs import deliver
from support.thorough import sample

from fedcli.errors import BadInputError, BudgetError, ConflictError, NotReadyError, UsageError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.ledger import Mechanism
from fedcli.formats.metadata import Kind, Role
from fedcli.privacy import budget
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.run.info import run_id
from fedcli.security.noise_key import write_noise_key
from fedcli.steps.aggregate import aggregate
from fedcli.steps.partial import partial
from fedcli.steps.verify import verify

pytestmark = pytest.mark.usefixtures("unsynced")
NOISY: dict[str, Any] = {"update_clip": 1.0, "update_noise": 0.5}
STEPS = {"0": 0.01, "1": -0.02, "2": 0.015}


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedadam", "fedyogi"])
def test_without_clip_and_noise_the_file_is_that_of_fedavg(tmp_path: Path, strategy: str) -> None:
    run, _ = noisy_run(tmp_path / "run")
    send(run, STEPS)
    plain = copied(run, tmp_path / "plain")
    aggregate(run, options={"strategy": strategy, "update_noise": 0.0})
    aggregate(plain, options={"strategy": strategy, "weighting": "uniform"})
    assert digest(run.round(1).global_model) == digest(plain.round(1).global_model)
    assert manifest_of(run).accepted == manifest_of(plain).accepted


def clipped(steps: dict[str, float], clip: float, divisor: float) -> float:
    """The mean of clipped steps that are the same in each of the 46 coordinates."""
    lengths = {client: abs(step) * math.sqrt(46) for client, step in steps.items()}
    return sum(s * min(1, clip / lengths[c]) for c, s in steps.items()) / divisor


@pytest.mark.parametrize("divisor", [None, 3.0, 7.5])
def test_steps_are_clipped_and_divided_by_the_constant(
    tmp_path: Path, divisor: float | None
) -> None:
    run, _ = noisy_run(tmp_path / "run", update_clip=0.1, update_noise=0.0, update_divisor=divisor)
    send(run, STEPS)
    result = combine(run)
    expected = clipped(STEPS, 0.1, divisor or 3.0)
    np.testing.assert_allclose(moved(run), expected, rtol=1e-4, atol=1e-7)
    assert {client.weight for client in result.clients} == {1 / (divisor or 3.0)}


def test_the_number_that_came_changes_no_weight(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", 4, **NOISY)
    send(run, {"0": 0.01})
    with pytest.raises(NotReadyError, match="1 of 4 clients"):
        combine(run, key)
    combine(run, key, min_clients=1)
    (sum_,) = manifest_of(run).privacy
    assert sum_.event.divisor == 4.0
    assert abs(moved(run).mean() - 0.01 / 4) < 5 * 0.5 / 4 / math.sqrt(46)


def test_the_clients_of_a_sampled_round_are_the_divisor(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", 6, clients_per_round=2, **NOISY)
    send(run, dict.fromkeys(map(str, range(6)), 0.01))
    combine(run, key)
    assert manifest_of(run).privacy[0].event.divisor == 2.0


def big(size: int = 1_000_000) -> dict[str, Any]:
    return {"a.weight": np.zeros(size, np.float32)}


def test_the_noise_has_the_promised_spread(tmp_path: Path) -> None:
    """χ² of a million values: Σ z² has mean N and variance 2N, and 8 of its deviations is never."""
    run, key = noisy_run(
        tmp_path / "run", base=big(), update_clip=0.75, update_noise=1.5, update_divisor=5.0
    )
    send(run, {"0": 0.0, "1": 1e-4, "2": -1e-4})
    combine(run, key)
    drawn = moved(run) / (1.5 * 0.75 / 5.0)
    size = len(drawn)
    assert abs((drawn**2).sum() - size) < 5 * math.sqrt(2 * size)
    assert abs(drawn.sum()) < 5 * math.sqrt(size)
    assert abs((drawn[1:] * drawn[:-1]).sum()) < 5 * math.sqrt(size)
    assert abs((drawn**4).sum() - 3 * size) < 5 * math.sqrt(96 * size)


def correlated(one: Any, other: Any) -> float:
    return abs(float(np.corrcoef(one, other)[0, 1])) * math.sqrt(len(one))


def test_noise_is_independent_between_rounds_inputs_options_and_keys(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", base=big(10_000), **NOISY)
    other, other_key = noisy_run(tmp_path / "other", base=big(10_000), **NOISY)
    found = []
    for number in (1, 2):
        send(run, dict.fromkeys("012", 0.0), number)
        combine(run, key)
        found.append(moved(run, number))
    combine(run, key, round_number=2, force=True, options={"relation": "replace"})
    found.append(moved(run, 2))
    send(run, {"0": 1e-6}, 2)
    combine(run, key, round_number=2, force=True)
    found.append(moved(run, 2))
    send(other, dict.fromkeys("012", 0.0))
    combine(other, other_key)
    found.append(moved(other))
    for i, one in enumerate(found):
        for another in found[:i]:
            assert correlated(one, another) < 5


def test_the_same_inputs_and_key_give_the_same_bytes(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", **NOISY)
    send(run, STEPS)
    twin = copied(run, tmp_path / "twin")
    combine(run, key)
    before = snapshot(run)
    assert combine(run, key).already_done
    assert combine(run, key, force=True).already_done
    assert combine(run).already_done  # nothing is drawn
    assert snapshot(run) == before
    combine(twin, key)
    assert digest(run.round(1).global_model) == digest(twin.round(1).global_model)


def test_bytes_depend_on_neither_blocks_nor_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    base = {
        "a.weight": rng.standard_normal(150_001, dtype=np.float32),
        "b.weight": rng.standard_normal(1_001),  # float64
        "c.weight": rng.standard_normal(70_003).astype(np.float16),
    }
    run, key = noisy_run(tmp_path / "run", base=base, **NOISY)
    send(run, STEPS)
    twin = copied(run, tmp_path / "twin")
    combine(run, key)
    monkeypatch.setattr("fedcli.aggregation.reduce.BLOCK_BYTES", 40_000)
    monkeypatch.setattr("fedcli.aggregation.blocks.BLOCK_BYTES", 24_000)
    monkeypatch.setattr("fedcli.aggregation.reduce.threads_for", lambda _: 3)
    combine(twin, key)
    same_bits(loaded(run.round(1).global_model), loaded(twin.round(1).global_model))


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the grid of the noise, so that sums can be seen."""

    def zeros(_: Any, __: Any, ___: str, start: int, stop: int) -> Any:
        return np.zeros(stop - start, np.int64)

    monkeypatch.setattr("fedcli.security.discrete_gaussian.DiscreteGaussian.draw", zeros)


EXTREME = [0.0, 1.0, -1e38, 1e38, 1e200, 1e-38, 1e-3, np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("step", EXTREME)
@pytest.mark.usefixtures("silent")
def test_a_client_of_any_size_moves_the_sum_by_c_at_most(tmp_path: Path, step: float) -> None:
    """In integers, so that no rounding hides a sum that is too long."""
    rng = np.random.default_rng(3)
    base = {"a.weight": np.zeros(5000), "b.weight": np.zeros((7, 9))}
    run, key = noisy_run(
        tmp_path / "run", base=base, update_clip=0.3, update_noise=0.7, update_divisor=1.0
    )
    send(run, {"0": 0.001, "1": -0.002})
    combine(run, key, min_clients=2)
    without = moved(run)
    send(run, {"2": {name: step * rng.random(v.shape) for name, v in base.items()}})
    combine(run, key, round_number=1, force=True)
    assert manifest_of(run).accepted[2].kept
    grid = manifest_of(run).privacy[0].event.grid
    assert grid is not None
    units = (moved(run) - without) / grid
    assert (units == np.rint(units)).all()
    square = sum(int(unit) ** 2 for unit in units.tolist())
    assert square <= (0.3 / grid) ** 2
    if 1 <= abs(step) < 1e200:
        assert square > (0.2999 / grid) ** 2
    elif not abs(step) < 1e200 or step == 0:
        assert square == 0


@pytest.mark.usefixtures("silent")
def test_a_step_that_counts_as_0_is_told_to_the_coordinator_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, key = noisy_run(tmp_path / "run", **NOISY)
    send(run, {"0": 0.01, "1": np.nan, "2": 0.02})
    said: list[str] = []
    combine(run, key, progress=Listener(said))
    assert said == ["client 1: its step is NaN or infinite, and counts as 0"]
    told = manifest_of(run)
    assert [entry.client for entry in told.accepted] == ["0", "1", "2"]
    assert told.rejected == ()
    assert "NaN" not in run.round(1).manifest.read_text()


class Listener(Silence):
    """Keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def say(self, line: str) -> None:
        self._said.append(line)


@pytest.mark.usefixtures("silent")
def test_tied_weights_count_once(tmp_path: Path) -> None:
    """An update holds a tied tensor once, so that its square is in the norm once."""
    values = {"a.weight": np.zeros(16), "z.weight": np.zeros(16)}
    run, key = noisy_run(
        tmp_path / "run", base=values, tied={"z.weight": "a.weight"}, update_divisor=1.0, **NOISY
    )
    deliver(run, "0", {"a.weight": np.full(16, 0.24)}, roles={}, tied={"z.weight": "a.weight"})
    combine(run, key, min_clients=1)
    after = loaded(run.round(1).global_model)
    np.testing.assert_allclose(after["a.weight"], 0.24, atol=1e-5)
    same_bits({"x": after["a.weight"]}, {"x": after["z.weight"]})
    assert manifest_of(run).privacy[0].event.coordinates == 16


def test_buffers_and_counters_are_refused(tmp_path: Path) -> None:
    base = {**model(), "bn.running_mean": np.zeros(3, np.float32)}
    roles = {"bn.running_mean": Role.BUFFER}
    run, key = noisy_run(tmp_path / "run", base=base, roles=roles, **NOISY)
    before = snapshot(run)
    deliver(run, "0", base, roles=roles)
    with pytest.raises(UsageError, match=r"'bn\.running_mean' .* is a buffer") as refused:
        combine(run, key, min_clients=1)
    assert "--norm group" in (refused.value.hint or "")
    run.round(1).update("0").unlink()
    assert snapshot(run) == before


def test_nothing_is_drawn_without_the_key(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", **NOISY)
    other = write_noise_key(tmp_path / "other.key", outside=run.root)
    send(run, STEPS)
    before = snapshot(run)
    with pytest.raises(UsageError, match="--update-noise: comes from the secret key"):
        combine(run)
    with pytest.raises(BadInputError, match=f"expected {key.commitment[:12]}") as refused:
        combine(run, other)
    assert refused.value.path == other.path
    with pytest.raises(UsageError, match="--noise-key: has no use without --update-noise"):
        combine(run, key, options={"update_noise": 0.0})
    assert snapshot(run) == before


def test_a_run_without_a_commitment_adds_no_noise(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run")
    info = run.info.as_json()
    del info["noise_key"], info["id"]
    (run.root / "run.json").write_text(json.dumps({**info, "id": run_id(info)}))
    send(Run.open(run.root), STEPS)
    with pytest.raises(UsageError, match=r"run\.json commits to no key"):
        combine(Run.open(run.root), key, options=NOISY)


def test_partial_means_are_not_clipped_and_so_refused(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run")
    send(run, STEPS)
    path = tmp_path / "part.safetensors"
    partial(run, ["0", "1"], path, options={"weighting": "uniform"})
    with pytest.raises(UsageError, match="a partial mean holds only their sum"):
        combine(run, key, members=["2", str(path)], options=NOISY)
    with pytest.raises(UsageError, match="a partial mean holds only their sum"):
        partial(run, ["0", "1"], path, options=NOISY, force=True)


@pytest.mark.parametrize("relation", [ADD_REMOVE, REPLACE])
def test_the_manifest_says_what_was_spent(tmp_path: Path, relation: str) -> None:
    run, key = noisy_run(tmp_path / "run", relation=relation, update_clip=1.0, update_noise=4.0)
    send(run, STEPS)
    combine(run, key)
    (entry,) = manifest_of(run).privacy
    assert (entry.run, entry.round) == (run.id, 1)
    event = entry.event
    assert (event.mechanism, event.sigma, event.clip, event.divisor, event.relation) == (
        *(Mechanism.DISCRETE, 4.0, 1.0, 3.0),
        relation,
    )
    assert (event.q, event.count, event.coordinates) == (1.0, 1, 46)
    times = 2 if relation == REPLACE else 1
    expected = budget([gaussian(4.0 / times)], 1e-5).epsilon
    assert abs(budget([event], 1e-5).epsilon - expected) < 1e-3


def test_clipping_alone_protects_nobody_and_says_so(tmp_path: Path) -> None:
    run, _ = noisy_run(tmp_path / "run", update_clip=1.0, update_noise=0.0)
    send(run, STEPS)
    combine(run)
    assert budget([e.event for e in manifest_of(run).privacy], 1e-5).epsilon == math.inf


def test_what_was_seen_stays_spent(tmp_path: Path) -> None:
    """``--force`` on other inputs is one more event, on the same inputs none."""
    run, key = noisy_run(tmp_path / "run", **NOISY)
    send(run, STEPS)
    combine(run, key)
    first = manifest_of(run).privacy
    run.round(1).global_model.write_bytes(b"damaged")
    combine(run, key, force=True)
    assert manifest_of(run).privacy == first
    send(run, {"1": 0.5})
    with pytest.raises(ConflictError, match="from another update of client 1"):
        combine(run, key, round_number=1)
    combine(run, key, round_number=1, force=True)
    assert set(first) < set(manifest_of(run).privacy)
    combine(run, round_number=1, force=True, options={"update_noise": 0.0})
    assert len(manifest_of(run).privacy) == 3
    send(run, STEPS)
    combine(run, key, round_number=1, force=True)
    assert set(first) < set(manifest_of(run).privacy)
    assert len(manifest_of(run).privacy) == 3


def test_files_do_not_tell_what_depends_on_single_clients(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", **NOISY)
    send(run, STEPS)
    combine(run, key)
    told = manifest_of(run)
    for entry in told.accepted:
        figures = (entry.num_examples, entry.norm, entry.cosine, entry.distance, entry.steps)
        assert figures == (None,) * 5
        assert (entry.weight, entry.kept) == (1 / 3, True)
        assert entry.bytes == 46 * 4  # of the values; the header has numbers of the client
    with Checkpoint(run.round(1).global_model) as made:
        assert made.metadata.num_examples is None
        assert made.metadata.updates is not None


def test_an_attacker_finds_no_difference_but_noise(tmp_path: Path) -> None:
    """All that a round publishes, with one client's step honest, hostile, or not a number."""
    told = []
    for step in (0.01, 1e38, np.nan):
        run, key = noisy_run(tmp_path / f"run{step}", **NOISY)
        send(run, {"0": step, "1": 0.01, "2": 0.02})
        combine(run, key)
        content = json.loads(run.round(1).manifest.read_text())
        told.append(without_digests(content))
    assert told[0] == told[1] == told[2]


def without_digests(value: Any) -> Any:
    """What a file says, without digests, times, and ids that the test's keys change."""
    if isinstance(value, dict):
        return {k: without_digests(v) for k, v in value.items() if k not in ("seconds",)}
    if isinstance(value, list):
        return [without_digests(item) for item in value]
    return "digest" if isinstance(value, str) and len(value) == 64 else value


def test_drowning_noise_is_told(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", base=big(100), update_clip=1.0, update_noise=0.5)
    send(run, {"0": 0.01, "1": 0.0, "2": 0.0})
    (remark,) = combine(run, key).remarks
    assert "σ√N = 5 is above D = 3" in remark
    assert "--freeze" in remark
    assert manifest_of(run).remarks == (remark,)
    few, its = noisy_run(tmp_path / "few", base=big(4), update_clip=1.0, update_noise=0.5)
    send(few, {"0": 0.01, "1": 0.0, "2": 0.0})
    assert combine(few, its).remarks == ()


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "fedadam", "server_lr": 0.5},
        {"strategy": "fedavgm"},
        {"encode_global": "int8", "feedback_global": 1.0},
    ],
)
def test_the_server_works_on_the_noisy_sum(tmp_path: Path, options: dict[str, Any]) -> None:
    run, key = noisy_run(tmp_path / "run", **NOISY, **options)
    for number in (1, 2):
        send(run, STEPS, number)
        combine(run, key)
    assert len(manifest_of(run, 2).privacy) == 1
    assert moved(run, 2).std() > 0.01


def test_a_round_that_would_pass_the_limit_is_not_made(tmp_path: Path) -> None:
    limit = {"update_max_epsilon": 2.5, "update_delta": 1e-5}
    run, key = noisy_run(tmp_path / "run", update_clip=1.0, update_noise=2.0, **limit)
    send(run, STEPS)
    combine(run, key)
    send(run, STEPS, 2)
    before = snapshot(run)
    with pytest.raises(BudgetError, match=r"more than --update-max-epsilon 2\.5; 1\.9.. is spent"):
        combine(run, key)
    assert snapshot(run) == before
    combine(run, key, options={"update_max_epsilon": 4.0})


ADAPTIVE: dict[str, Any] = {"update_noise": 0.5, "adaptive_clip": 0.5}


def clip_after(run: Run, number: int) -> float:
    with Checkpoint(run.round(number).global_model) as made:
        assert made.metadata.clip is not None
        return made.metadata.clip.next


def test_noise_has_the_norm_of_its_own_round(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", base=big(100_000), **ADAPTIVE)
    clips = [0.1]
    for number in (1, 2, 3):
        send(run, {"0": 1.0, "1": 1.0, "2": 1.0}, number)
        combine(run, key)
        of_sum, of_count = (entry.event for entry in manifest_of(run, number).privacy)
        if of_sum.coordinates == 1:
            of_sum, of_count = of_count, of_sum
        assert of_sum.clip == clips[-1]
        drawn = moved(run, number) * 3 / (of_sum.sigma * clips[-1])
        assert abs(drawn.std() - 1) < 0.02
        assert (of_count.clip, of_count.sigma, of_count.coordinates) == (0.5, 1.0, 1)
        clips.append(clip_after(run, number))
    events = [entry.event for entry in manifest_of(run, 1).privacy]
    as_if_plain = budget([gaussian(0.5)], 1e-5).epsilon
    assert as_if_plain <= budget(events, 1e-5).epsilon < as_if_plain + 0.05
    assert len(set(clips)) == 4


@pytest.mark.parametrize("start", [0.5, 10.0])
def test_the_norm_comes_to_that_of_the_clients(tmp_path: Path, start: float) -> None:
    """Without noise: steps of norm 1 ± 0.4, of which half are shorter than 1."""
    run, _ = noisy_run(
        tmp_path / "run", 10, update_noise=0.0, adaptive_clip=0.5, update_clip=start, clip_lr=0.5
    )
    lengths = np.linspace(0.6, 1.4, 10) / math.sqrt(46)
    for number in range(1, 26):
        send(run, {str(i): length for i, length in enumerate(lengths)}, number)
        combine(run)
    assert abs(clip_after(run, 25) - 1) < 0.15


def test_a_missing_client_moves_the_norm_neither_way(tmp_path: Path) -> None:
    run, _ = noisy_run(tmp_path / "run", 4, update_noise=0.0, adaptive_clip=0.5)
    send(run, {"0": 0.0, "1": 1.0})  # shorter and longer than C
    combine(run, min_clients=2)
    assert clip_after(run, 1) == 0.1


def test_another_start_of_the_norm_starts_anew(tmp_path: Path) -> None:
    run, _ = noisy_run(tmp_path / "run", update_noise=0.0, adaptive_clip=0.5)
    for number, options in ((1, {}), (2, {}), (3, {"update_clip": 7.0}), (4, {})):
        send(run, {"0": 1.0, "1": 1.0, "2": 1.0}, number)
        combine(run, options=options)
    spent = (manifest_of(run, number).privacy for number in (1, 2, 3, 4))
    (*clips,) = (e.event.clip for entries in spent for e in entries if e.event.clip != 0.5)
    assert clips[0] == 0.1
    assert clips[1] == pytest.approx(0.1 * math.exp(0.1))
    assert clips[2:] == [7.0, 0.1]


def test_the_norm_survives_an_encoded_model(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", encode_global="int8", **ADAPTIVE)
    send(run, STEPS)
    combine(run, key)
    with Checkpoint(run.round(1).delta, Kind.DELTA) as delta:
        assert delta.metadata.clip is not None
        assert delta.metadata.clip.next == clip_after(run, 1)


def test_a_damaged_ledger_is_not_replaced(tmp_path: Path) -> None:
    run, key = noisy_run(tmp_path / "run", **NOISY)
    send(run, STEPS)
    combine(run, key)
    run.round(1).manifest.write_text("{")
    before = snapshot(run)
    with pytest.raises(BadInputError, match=r"Expecting|JSON") as refused:
        combine(run, key, round_number=1, force=True)
    assert refused.value.path == run.round(1).manifest
    assert "nobody knows what the round has spent" in (refused.value.hint or "")
    assert snapshot(run) == before


@pytest.mark.usefixtures("silent")
def test_layers_that_stay_with_the_client_may_have_buffers(tmp_path: Path) -> None:
    base = {**model(), "bn.running_mean": np.zeros(3, np.float32)}
    roles = {"bn.running_mean": Role.BUFFER}
    run, key = noisy_run(tmp_path / "run", base=base, roles=roles, **NOISY)
    for client in "012":
        own = {name: values + np.float32(0.01) for name, values in model().items()}
        deliver(run, client, own, roles={}, training={"epochs": 1, "local_layers": ["bn"]})
    combine(run, key)
    assert manifest_of(run).privacy[0].event.coordinates == 46
    after = loaded(run.round(1).global_model)
    np.testing.assert_allclose(after["a.weight"] - base["a.weight"], 0.01, atol=1e-5)
    assert (after["bn.running_mean"] == 0).all()


@pytest.mark.parametrize("spec", ["topk=0.25", "randk=0.5,float16", "int8"])
@pytest.mark.usefixtures("silent")
def test_encoded_steps_are_clipped_as_what_they_stand_for(tmp_path: Path, spec: str) -> None:
    run, key = noisy_run(tmp_path / "run", update_clip=0.05, update_noise=0.5)
    send(run, STEPS)
    plain, its_key = copied(run, tmp_path / "plain"), key
    for client in STEPS:
        meant = encode_update(run, run.round(1).update(client), spec)
        deliver(plain, client, meant, roles={})
    combine(run, key)
    combine(plain, its_key)
    assert [entry.bytes for entry in manifest_of(run).accepted] == [None] * 3
    assert verify(run.root).sound
    same_bits(loaded(run.round(1).global_model), loaded(plain.round(1).global_model))
    assert abs(moved(run)).max() > 0


@pytest.mark.parametrize("how", ["before", "after", "half", "error"])
def test_no_fault_shrinks_what_was_spent(behind_faults: Commands, tmp_path: Path, how: str) -> None:
    """A round is replaced, and goes wrong at each call that changes a file."""
    before, folder = tmp_path / "before", tmp_path / "folder"
    run, key = noisy_run(before / "fedrun", strategy="fedadam", **NOISY)
    send(run, STEPS)
    combine(run, key)
    send(run, {"1": 0.5})
    first, old = set(manifest_of(run).privacy), digest(run.round(1).global_model)
    words = ("aggregate", "--run", folder / "fedrun", "--round", "1", "--force", "--quiet")
    words = (*words, "--noise-key", folder / "fedrun.key")
    restore(folder, before)
    ended = behind_faults(folder, *words)
    assert ended.status == 0, ended.err
    made = Run.open(folder / "fedrun")
    both, new = set(manifest_of(made).privacy), digest(made.round(1).global_model)
    assert first < both
    for at in sample(range(len(ended.calls)), 8, seed=how):
        restore(folder, before)
        behind_faults(folder, *words, at=at, how=how, number=errno.EIO)
        spent, model = set(manifest_of(made).privacy), made.round(1).global_model
        assert spent in (first, both)
        if model.exists() and digest(model) != old:
            assert (digest(model), spent) == (new, both)
        state = made.round(1).server_state
        if state.exists() and digest(state) != digest(run.round(1).server_state):
            assert spent == both
