"""What masked vectors hold: examples as weights, control variates, drawn coordinates, adapters."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.masked_runs import (
    BITS,
    CLIP,
    MEMBERS,
    ONE_THREAD,
    TRAIN,
    MaskedRun,
    give_data,
    masked_run,
    plain_run,
)

from fedcli.aggregation.base_model import read_base
from fedcli.aggregation.masked_sum import vector_of
from fedcli.errors import BadInputError, UsageError
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.masking.rounds import cohort_of
from fedcli.masking.vector import VectorLayout
from fedcli.partitioning.schemes import Scheme
from fedcli.plan import AggregatePlan, Plan
from fedcli.plan.execution import Execution
from fedcli.plan.secagg import SecaggOptions
from fedcli.randomness import stream, stream_seed
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.setup.data_source import DataSource
from fedcli.setup.start import Start
from fedcli.steps.aggregate import aggregate
from fedcli.steps.close import close_round
from fedcli.steps.init import init
from fedcli.steps.keygen import keygen
from fedcli.steps.partial import partial
from fedcli.steps.partition import partition
from fedcli.steps.train_client import train_client
from fedcli.steps.unmask import unmask
from fedcli.steps.verify import verify
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")
STEP = CLIP / 2 ** (BITS - 1)
MOST = 20
SIZES = {"a": 20, "b": 13, "c": 7, "d": 20}
BY_EXAMPLES = AggregatePlan(weighting="examples", max_examples=MOST)


def values(path: Path, kind: Kind = Kind.GLOBAL) -> dict[str, np.ndarray]:
    with Checkpoint(path, kind) as found:
        return found.tensors()


def fewer_examples(run: Run) -> None:
    """Give clients different numbers of examples."""
    for client, size in SIZES.items():
        give_data(run, client)
        with Checkpoint(run.client_shard(client), Kind.SHARD) as shard:
            tensors = {name: one[:size] for name, one in shard.tensors().items()}
        described = Metadata(Kind.SHARD, run.id, client=client, num_examples=size)
        run.client_shard(client).unlink()
        save(run.client_shard(client), tensors, described)


def problems(run: Run, **more: Any) -> list[tuple[str, str]]:
    """What verify finds, but for the shards, which stand for the clients' own folders."""
    found = verify(run.root, **more).findings
    return [(one.file, one.problem.value) for one in found if one.file != "data" and one.wrong]


# weights


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> MaskedRun:
    """A complete round of a, b and c, weighted by examples; nobody changes it."""
    made = masked_run(tmp_path_factory.mktemp("weighted"), rule=BY_EXAMPLES)
    fewer_examples(made.run)
    made.finish("abc", "abd")
    return made


def test_the_model_is_that_of_plain_quantised_weighted_averaging_to_the_byte(weighted, tmp_path):
    plain = plain_run(tmp_path)
    fewer_examples(plain)
    train_client(plain, ["a", "b", "c"], execution=ONE_THREAD)
    total_examples = sum(SIZES[client] for client in "abc")
    before, found = values(plain.round(0).global_model), values(weighted.round.global_model)
    for name, x in before.items():
        total = np.zeros(x.shape)
        for client in "abc":
            change = (values(plain.round(1).update(client), Kind.UPDATE)[name] - x).astype(float)
            total += np.rint(change * (SIZES[client] / MOST) / STEP)
        expected = x.astype(float) * total_examples + total * (STEP * MOST)
        expected = (expected / total_examples).astype(np.float32)
        assert found[name].tobytes() == expected.tobytes()
        assert np.abs(total).max() > 100  # else nothing was compared


def test_it_is_close_to_the_plain_weighted_mean(weighted, tmp_path):
    plain = plain_run(tmp_path)
    fewer_examples(plain)
    train_client(plain, ["a", "b", "c"], execution=ONE_THREAD)
    aggregate(plain, min_clients=3)
    before = values(plain.round(0).global_model)
    mine, theirs = values(weighted.round.global_model), values(plain.round(1).global_model)
    for name, x in theirs.items():
        assert np.abs(mine[name] - x).max() <= 3 * MOST / 40 * STEP
        assert np.abs(x - before[name]).max() > 100 * STEP


def test_only_the_sum_of_the_examples_is_known(weighted):
    manifest = Manifest.read(weighted.round.manifest)
    assert manifest is not None
    assert [(one.name, one.num_examples) for one in manifest.partials] == [("sum", 40)]
    assert manifest.weighting == "examples"
    for client in "abc":
        with Checkpoint(weighted.round.update(client), Kind.UPDATE) as update:
            assert (update.metadata.num_examples, update.metadata.training.steps) == (None, None)
            assert update.metadata.encoding["examples"] == MOST
            assert update.layout["masked"].shape == (387,)  # of 386 parameters
    texts = [p.read_text() for p in weighted.round.updates.glob("*.json")]
    assert not [text for text in texts if '"num_examples": 13' in text or '"steps"' in text]
    assert problems(weighted.run) == []
    assert problems(weighted.run, replay=UserCode()) == []


def test_a_client_with_more_examples_counts_as_the_most(tmp_path, monkeypatch):
    said: list[str] = []
    made = masked_run(tmp_path, rule=replace(BY_EXAMPLES, max_examples=10))
    fewer_examples(made.run)
    listening = type("Listening", (), {"say": lambda _, line: said.append(line)})
    for name in ("start", "advance"):
        setattr(listening, name, lambda *_: None)
    made.train("a", progress=listening())
    assert "client a: 20 examples count as 10" in said
    made.train("b")
    made.train("c")
    made.close()
    for client in "abc":
        made.unmask(client)
    made.aggregate()
    with Checkpoint(made.round.masked_sum, Kind.PARTIAL) as total:
        assert total.metadata.num_examples == 10 + 10 + 7


@pytest.mark.parametrize("count", [2**30, -50])
def test_an_impossible_number_of_examples_is_noticed(tmp_path, monkeypatch, count):
    made = masked_run(tmp_path, rule=BY_EXAMPLES)
    made.train("a")
    made.train("b")
    with monkeypatch.context() as patch:
        patch.setattr(VectorLayout, "counted", lambda *_: count)
        patch.setattr(VectorLayout, "weight", lambda *_: 1.0)
        made.train("c")
    made.close()
    for client in "abc":
        made.unmask(client)
    with pytest.raises(
        BadInputError, match=r"3 clients have -?\d+ examples together, expected 3 …"
    ):
        made.aggregate()
    assert not made.round.global_model.exists()


def test_weights_at_the_bound_do_not_overflow(tmp_path):
    most = (2**31 - 1) // 4
    made = masked_run(tmp_path, rule=replace(BY_EXAMPLES, max_examples=most))
    made.finish()
    with Checkpoint(made.round.masked_sum, Kind.PARTIAL) as total:
        assert total.metadata.num_examples == 80


def test_private_training_and_numbers_of_examples_do_not_go_together(tmp_path):
    private = TRAIN.with_options({"dp": "example", "clip": 1.0, "noise_multiplier": 1.0})
    with pytest.raises(UsageError, match="--weighting examples: --dp example withholds"):
        masked_run(tmp_path, train=private, rule=BY_EXAMPLES)
    made = masked_run(tmp_path, rule=BY_EXAMPLES)
    options = {"dp": "example", "clip": 1.0, "noise_multiplier": 1.0}
    key = keygen(made.run.root, tmp_path / "noise.key", noise=True).path
    state = Execution(threads=1, state=tmp_path / "state")
    with pytest.raises(UsageError, match=r"--dp example (hides|withholds)"):
        made.train("a", options=options, noise_key=key, execution=state)


# control variates


SCAFFOLD: Mapping[str, Any] = {
    "train": TRAIN.with_options({"algorithm": "scaffold"}),
    "rule": AggregatePlan(strategy="scaffold"),
    "secagg_control_clip": 4.0,
}


def train_all(made: MaskedRun, folder: Path, clients: str = "abcd") -> None:
    for client in clients:
        made.train(client, execution=Execution(threads=1, state=folder / f"state-{client}"))


def open_round(made: MaskedRun, folder: Path, clients: str = "abcd") -> None:
    train_all(made, folder, clients)
    made.close()
    for client in clients:
        made.unmask(client)
    made.aggregate()


def test_control_variates_are_masked_and_add_up(tmp_path):
    """c is the mean of what the clients keep, whatever rounding loses, round by round."""
    made = masked_run(tmp_path, **SCAFFOLD)
    for number in (1, 2):
        open_round(made, tmp_path)
        server = values(made.run.round(number).server_state, Kind.SERVER_STATE)
        own = []
        for client in MEMBERS:
            (state,) = (tmp_path / f"state-{client}").rglob(f"*{number:04d}*/**/*.safetensors")
            own.append(values(state, Kind.CLIENT_STATE))
        for name, c in server.items():
            mean = np.mean([one[name] for one in own], axis=0)
            assert np.abs(c - mean).max() < 1e-6
            assert np.abs(c).max() > 1e-3
    assert problems(made.run) == []
    assert problems(made.run, replay=UserCode()) == []


def test_the_order_of_a_vector_follows_from_the_model_alone(tmp_path):
    """Sets of names have another order in every process."""
    made = masked_run(tmp_path, **SCAFFOLD)
    whole, cohort = read_base(made.run, made.round), cohort_of(made.run, made.round)
    controls = ["control/fc.weight", "control/fc.bias"]
    orders = [controls, controls[::-1]]
    found = [vector_of(whole.holding((), order), cohort).parts for order in orders]
    assert [part.names for part in found[0]] == [part.names for part in found[1]]


def test_masked_scaffold_is_close_to_plain_scaffold(tmp_path):
    made = masked_run(tmp_path / "masked", **SCAFFOLD)
    open_round(made, tmp_path)
    start = Start(ModelInfo("linear"), plan=Plan(SCAFFOLD["train"], SCAFFOLD["rule"]))
    init(tmp_path / "plain", ("x", "y"), clients=MEMBERS, image_size=8, start=start)
    plain = Run.open(tmp_path / "plain")
    for client in MEMBERS:
        give_data(plain, client)
    train_client(plain, ["all"], execution=ONE_THREAD)
    aggregate(plain)
    mine = values(made.round.server_state, Kind.SERVER_STATE)
    theirs = values(plain.round(1).server_state, Kind.SERVER_STATE)
    step = 4.0 / 2 ** (BITS - 1)
    for name, c in theirs.items():
        assert np.abs(mine[name] - c).max() <= step
        assert np.abs(c).max() > 10 * step


def test_control_variates_beyond_their_clip_are_cut_off_and_made_up_for(tmp_path):
    made = masked_run(tmp_path, **{**SCAFFOLD, "secagg_control_clip": 1e-3})
    open_round(made, tmp_path)
    server = values(made.round.server_state, Kind.SERVER_STATE)
    assert max(np.abs(c).max() for c in server.values()) <= 1e-3 * (1 + 1e-6)


def test_clips_belong_to_what_is_sent(tmp_path):
    with pytest.raises(UsageError, match="--secagg-control-clip: fedavg sends no control variates"):
        masked_run(tmp_path, secagg_control_clip=1.0)
    rule = AggregatePlan(strategy="scaffold", update_noise=1.0, update_clip=1.0)
    noisy = {**SCAFFOLD, "rule": rule}
    with pytest.raises(UsageError, match="control"):
        masked_run(tmp_path, **noisy)


# drawn coordinates


def test_drawn_coordinates_are_those_of_everybody(tmp_path):
    train = TRAIN.with_options({"encode": "randk=0.25"})
    made = masked_run(tmp_path / "masked", train=train)
    made.finish("abc", "abc")
    count = -(-386 // 4)
    drawn = stream(stream_seed(made.run.info.seed, 1, "encoding"), "randk")
    chosen = np.sort(drawn.choice(386, count, replace=False, shuffle=False))
    plain = plain_run(tmp_path / "plain")
    train_client(plain, ["a", "b", "c"], execution=ONE_THREAD)
    before = values(plain.round(0).global_model)
    flat = {
        client: np.concatenate([(one - before[name]).reshape(-1) for name, one in update.items()])
        for client in "abc"
        for update in [values(plain.round(1).update(client), Kind.UPDATE)]
    }
    total = np.zeros(386)
    for change in flat.values():
        total[chosen] += np.rint(change.astype(float)[chosen] / STEP)
    x = np.concatenate([one.reshape(-1) for one in before.values()]).astype(float)
    expected = ((x * 3 + total * STEP) / 3).astype(np.float32)
    found = values(made.round.global_model)
    assert np.concatenate([one.reshape(-1) for one in found.values()]).tobytes() == (
        expected.tobytes()
    )
    with Checkpoint(made.round.update("a"), Kind.UPDATE) as update:
        assert update.layout["masked"].shape == (count,)
    assert np.count_nonzero(total) > 50
    assert problems(made.run) == []
    assert problems(made.run, replay=UserCode()) == []


def test_all_clients_send_the_coordinates_of_the_run(tmp_path):
    made = masked_run(tmp_path, train=TRAIN.with_options({"encode": "randk=0.25"}))
    with pytest.raises(UsageError, match=r"--encode randk=0\.5,float32: masked updates are"):
        made.train("a", options={"encode": "randk=0.5"})
    made = masked_run(tmp_path / "plain")
    with pytest.raises(UsageError, match="all clients send what the run says, float32"):
        made.train("a", options={"encode": "randk=0.5"})


def test_everything_together(tmp_path):
    """Weights, control variates and drawn coordinates in one vector."""
    train = TRAIN.with_options({"algorithm": "scaffold", "encode": "randk=0.5"})
    rule = AggregatePlan(strategy="scaffold", weighting="examples", max_examples=MOST)
    made = masked_run(tmp_path, train=train, rule=rule, secagg_control_clip=4.0)
    fewer_examples(made.run)
    for _ in range(2):
        open_round(made, tmp_path, "abd")
    with Checkpoint(made.round.update("a"), Kind.UPDATE) as update:
        assert update.layout["masked"].shape == (2 * 193 + 1,)
        assert Role.CONTROL in update.metadata.roles.values()
    with Checkpoint(made.round.masked_sum, Kind.PARTIAL) as total:
        assert total.metadata.num_examples == 53
    assert problems(made.run) == []


# layers


@pytest.mark.parametrize(
    ("model", "train"),
    [
        (ModelInfo("cnn", lora=2), {}),
        (ModelInfo("resnet18", norm="group"), {"freeze": ("*", "!fc")}),
        (ModelInfo("resnet18"), {"algorithm": "fedbn"}),
        (ModelInfo("resnet18"), {"freeze": ("*", "!fc")}),
    ],
    ids=["lora", "group norm", "fedbn", "frozen BatchNorm"],
)
def test_networks_of_which_only_a_part_is_masked(tmp_path, model, train):
    start = Start(
        model,
        plan=Plan(TRAIN.with_options(train)),
        secagg=SecaggOptions(secagg=True, secagg_clip=CLIP),
    )
    run = Run.open(
        partition(tmp_path / "r", DataSource(limit=40), Scheme("iid", clients=3), start).run
    )
    train_client(run, ["all"], execution=ONE_THREAD)
    close_round(run)
    for client in run.info.clients:
        unmask(run, client)
    aggregate(run)
    before, after = values(run.round(0).global_model), values(run.round(1).global_model)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    held = values(run.round(1).update("0"), Kind.UPDATE)["masked"].size
    assert 0 < sum(before[name].size for name in moved) <= held
    assert held < sum(one.size for one in before.values())
    assert verify(run.root).sound


def test_batch_norm_is_refused_with_the_way_out(tmp_path):
    start = Start(ModelInfo("resnet18"), secagg=SecaggOptions(secagg=True, secagg_clip=CLIP))
    with pytest.raises(UsageError, match="is a buffer, and only parameters are masked") as caught:
        partition(tmp_path / "r", DataSource(limit=40), Scheme("iid", clients=3), start)
    assert "--norm group" in (caught.value.hint or "")
    assert "--algorithm fedbn" in (caught.value.hint or "")
    assert not (tmp_path / "r").exists()


# trees


def test_masked_updates_are_added_up_in_one_place(tmp_path):
    made = masked_run(tmp_path)
    made.train("a")
    with pytest.raises(UsageError, match="--partial: masked updates are added up where their"):
        partial(made.run, ["a"], tmp_path / "part.safetensors")
