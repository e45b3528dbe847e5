"""The server's halves of SCAFFOLD and FedDyn, against their papers, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import (
    ALL_ROLES,
    SEVEN,
    TRAINING,
    Tensors,
    copied,
    edge,
    filled,
    loaded,
    new_run,
    of_every_kind,
    same_bits,
    snapshot,
)
from support.runs import ROLES, deliver, fedcli, run_info, tensors

from fedcli.aggregation.server_state import read_slot
from fedcli.errors import BadInputError, NotReadyError, UpdateError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.partial import partial

pytestmark = pytest.mark.usefixtures("unsynced")
FIVE = tuple("01234")
PARAMETERS = [name for name in tensors(0) if name not in ROLES]
SCAFFOLD, FEDDYN = {"strategy": "scaffold"}, {"strategy": "feddyn"}


def bring(run: Run, client: str, number: int, controls: Tensors, **changes: Any) -> Tensors:
    """Deliver a model that is some steps away from the global one, with controls."""
    rng = np.random.default_rng((number, int(client)))
    model = {
        name: np.asarray(v + rng.standard_normal(v.shape).astype(v.dtype), v.dtype)
        for name, v in loaded(run.round(number - 1).global_model).items()
    }
    sent = {f"control/{name}": value for name, value in controls.items()}
    roles = {**ROLES, **dict.fromkeys(sent, Role.CONTROL)}
    deliver(run, client, {**model, **sent}, round_number=number, roles=roles, **changes)
    return model


def some(seed: Any) -> Tensors:
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal(tensors(0)[n].shape).astype(np.float32) for n in PARAMETERS}


# --- SCAFFOLD ------------------------------------------------------------------------------------


def test_the_servers_control_is_the_mean_of_the_clients_when_all_take_part(tmp_path: Path) -> None:
    """Karimireddy et al. 2020: c = 1/N Σ c_i, round after round, from zero on."""
    run = new_run(tmp_path / "run", tensors(0), FIVE)
    own = {client: {n: np.zeros_like(v) for n, v in some(0).items()} for client in FIVE}
    for number in (1, 2, 3, 4):
        for client in FIVE:
            new = some((number, int(client), 7))
            bring(run, client, number, {n: new[n] - own[client][n] for n in PARAMETERS})
            own[client] = new
        aggregate(run, options=SCAFFOLD)
        found, sha256 = read_slot(run, number + 1, "control")
        assert sha256 == digest(run.round(number).server_state)
        assert found.keys() == set(PARAMETERS)
        for name, values in found.items():
            mean = np.mean([own[client][name].astype(float) for client in FIVE], axis=0)
            assert (values.dtype, values.shape) == (np.float32, mean.shape)
            np.testing.assert_allclose(values, mean, atol=1e-6)


@pytest.mark.parametrize("lr", [1.0, 0.5])
def test_some_of_the_clients_move_the_control_by_their_share(tmp_path: Path, lr: float) -> None:
    """Algorithm 1: c ← c + |S|/N mean Δc_i, x ← x + η mean (y_i - x); buffers are averaged."""
    run = new_run(tmp_path / "run", tensors(0), FIVE)
    control = {name: np.zeros_like(v, np.float64) for name, v in some(0).items()}
    for number, present in ((1, "013"), (2, "4"), (3, "02")):
        before = loaded(run.round(number - 1).global_model)
        changes = {client: some((number, int(client))) for client in present}
        models = [bring(run, client, number, changes[client]) for client in present]
        found = loaded(aggregate(run, options={**SCAFFOLD, "server_lr": lr}, min_clients=1).path)
        state, _ = read_slot(run, number + 1, "control")
        for name in PARAMETERS:
            control[name] += np.sum([changes[client][name] for client in present], axis=0) / 5
            np.testing.assert_allclose(state[name], control[name], atol=1e-6)
            step = np.mean([m[name].astype(float) - before[name] for m in models], axis=0)
            np.testing.assert_allclose(found[name], before[name] + lr * step, rtol=1e-6, atol=1e-6)
        mean = np.mean([model["bn.running_mean"] for model in models], axis=0)
        np.testing.assert_allclose(found["bn.running_mean"], mean, rtol=1e-6, atol=1e-7)
    manifest = Manifest.try_read(run.round(3).manifest)
    assert manifest is not None
    assert manifest.server_state == digest(run.round(3).server_state)
    assert (manifest.strategy, manifest.server_optimizer) == ("scaffold", "scaffold")
    assert aggregate(run, round_number=3, options={**SCAFFOLD, "server_lr": lr}).already_done


def test_with_rate_1_the_model_is_that_of_uniform_fedavg_to_the_bit(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0), FIVE)
    plain = new_run(tmp_path / "plain", tensors(0), FIVE)
    for client in FIVE:
        model = bring(run, client, 1, some(int(client)))
        deliver(plain, client, model)
    result = aggregate(run, options=SCAFFOLD)
    expected = aggregate(plain, options={"weighting": "uniform"})
    same_bits(loaded(result.path), loaded(expected.path))
    for a, b in zip(result.clients, expected.clients, strict=True):
        assert (a.norm, a.cosine, a.distance) == (b.norm, b.cosine, b.distance)
    with Checkpoint(result.path) as model:
        assert model.metadata.roles == ROLES


def test_weighted_by_examples_the_control_is_the_mean_weighted_alike(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0", "1"))
    changes = {client: some(int(client)) for client in "01"}
    for client, examples in (("0", 10), ("1", 30)):
        bring(run, client, 1, changes[client], num_examples=examples)
    aggregate(run, options={**SCAFFOLD, "weighting": "examples"})
    for name, values in read_slot(run, 2, "control")[0].items():
        mean = (10 * changes["0"][name].astype(float) + 30 * changes["1"][name]) / 40
        np.testing.assert_allclose(values, mean, atol=1e-6)


def every_kind(root: Path) -> Run:
    """Seven clients with controls for parameters of every dtype, of several blocks."""
    run = new_run(root, of_every_kind(0), SEVEN, ALL_ROLES)
    for client in SEVEN:
        values = of_every_kind(1 + int(client))
        controls = every_control(values, int(client))
        roles = {**ALL_ROLES, **dict.fromkeys(controls, Role.CONTROL)}
        deliver(run, client, {**values, **controls}, roles=roles, training=TRAINING)
    return run


def every_control(values: Tensors, seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        f"control/{name}": rng.standard_normal(v.shape).astype(
            np.float64 if v.dtype == np.float64 else np.float32
        )
        for name, v in values.items()
        if name not in ALL_ROLES
    }


@pytest.mark.parametrize("options", [SCAFFOLD, FEDDYN], ids=["scaffold", "feddyn"])
def test_a_tree_leaves_what_all_updates_at_once_leave(
    tmp_path: Path, options: dict[str, str]
) -> None:
    run = every_kind(tmp_path / "run")
    if options == FEDDYN:
        for client in SEVEN:
            values = of_every_kind(1 + int(client))
            deliver(run, client, values, roles=ALL_ROLES, training=TRAINING)
    flat = copied(run, tmp_path / "flat")
    aggregate(flat, options=options)
    inner = edge(run, "inner", "2", "3", options=options)
    left = edge(run, "left", "0", "1", inner, options=options)
    right = edge(run, "right", "4", "5", options=options)
    aggregate(run, members=[left, right, "6"], options=options)
    for path in (run.round(1).server_state, run.round(1).global_model):
        found, expected = loaded(path), loaded(flat.round(1).path / path.name)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            if values.dtype in (np.float32, np.float64):
                np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6)


def test_controls_of_every_dtype_are_added_up(tmp_path: Path) -> None:
    run = every_kind(tmp_path / "run")
    aggregate(run, options=SCAFFOLD)
    sent = [every_control(of_every_kind(1 + int(c)), int(c)) for c in SEVEN]
    state = loaded(run.round(1).server_state)
    assert state.keys() == sent[0].keys()
    for name, values in state.items():
        assert (values.dtype, values.shape) == (sent[0][name].dtype, sent[0][name].shape)
        mean = np.mean([each[name].astype(float) for each in sent], axis=0)
        np.testing.assert_allclose(values, mean, rtol=1e-6, atol=1e-7)


def test_controls_are_of_the_parameters_that_are_sent(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0", "1"))
    for client in "01":
        values = {n: v for n, v in tensors(1).items() if not n.startswith("fc")}
        controls = {f"control/{n}": v for n, v in some(1).items() if not n.startswith("fc")}
        roles = {**ROLES, **dict.fromkeys(controls, Role.CONTROL)}
        deliver(run, client, {**values, **controls}, roles=roles, training={"freeze": ["fc"]})
    found = loaded(aggregate(run, options=SCAFFOLD).path)
    same_bits(
        {n: found[n] for n in found if "fc" in n}, {n: tensors(0)[n] for n in found if "fc" in n}
    )
    assert read_slot(run, 2, "control")[0].keys() == {"conv.weight", "scale"}


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fedavg", "median", "fedadam", "krum", "feddyn"])
def test_controls_are_not_lost_in_silence(tmp_path: Path, strategy: str) -> None:
    run = new_run(tmp_path / "run", tensors(0), FIVE)
    for client in FIVE:
        bring(run, client, 1, some(0), training=TRAINING)
    before = snapshot(run)
    with pytest.raises(UpdateError, match="0001: its updates bring control") as refused:
        aggregate(run, options={"strategy": strategy})
    assert "aggregate --strategy scaffold" in (refused.value.hint or "")
    assert snapshot(run) == before


def test_updates_without_controls_are_refused_with_the_way_to_make_them(tmp_path: Path) -> None:
    run = filled(tmp_path / "run", {client: tensors(int(client)) for client in FIVE})
    for step in (
        lambda: aggregate(run, options=SCAFFOLD),
        lambda: edge(run, "edge", "0", "1", options=SCAFFOLD),
    ):
        with pytest.raises(UpdateError, match="0001: its updates bring no") as refused:
            step()
        assert "train-client --algorithm scaffold" in (refused.value.hint or "")


@pytest.mark.parametrize("odd", ["0", "3"])
def test_all_have_to_bring_controls(tmp_path: Path, odd: str) -> None:
    run = new_run(tmp_path / "run", tensors(0), FIVE)
    for client in FIVE:
        bring(run, client, 1, {} if client == odd else some(0))
    others = "most of the updates" if odd == "0" else "the update of client 0"
    message = rf"{odd}\.safetensors: withholds tensor 'control/.*, which is in {others}"
    with pytest.raises(UpdateError, match=message):
        aggregate(run, options=SCAFFOLD)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("control/fc.bias", np.zeros(4), r"'control/fc\.bias': expected dtype F32, found F64"),
        ("control/fc.bias", np.zeros(5, np.float32), r"'control/fc\.bias': expected shape"),
        ("control/bn.running_mean", np.zeros(8, np.float32), "but no such parameter"),
        ("control/bn.num_batches_tracked", np.zeros((), np.float32), "but no such parameter"),
        ("control/other", np.zeros(4, np.float32), "but no such parameter"),
        ("fc.bias", np.zeros(4, np.float32), "the role of a control but not its name"),
        ("momentum/fc.bias", np.zeros(4, np.float32), "the role of a control but not its name"),
        ("control/fc.bias", np.full(4, np.nan, np.float32), r"'control/fc\.bias': 4 of 4 values"),
    ],
)
def test_a_control_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, values: Any, message: str
) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0",))
    controls = {f"control/{n}": v for n, v in some(0).items()}
    sent = {**tensors(1), **controls, name: values}
    roles = {**ROLES, **dict.fromkeys([*controls, name], Role.CONTROL)}
    deliver(run, "0", sent, roles=roles)
    before = snapshot(run)
    with pytest.raises(UpdateError, match=rf"0\.safetensors: .*{message}"):
        aggregate(run, options=SCAFFOLD)
    assert snapshot(run) == before


def test_a_control_without_its_role_is_no_tensor_of_the_model(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0",))
    deliver(run, "0", {**tensors(1), "control/fc.bias": np.zeros(4, np.float32)})
    with pytest.raises(UpdateError, match=r"'control/fc\.bias' that the base model does not have"):
        aggregate(run, options=SCAFFOLD)


@pytest.mark.parametrize("strategy", ["scaffold", "feddyn"])
def test_the_number_of_all_clients_has_to_be_known(tmp_path: Path, strategy: str) -> None:
    run = Run.create(tmp_path / "run", run_info(()))
    save(run.round(0).global_model, tensors(0), Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES))
    bring(run, "0", 1, some(0), training=TRAINING)
    done = fedcli("aggregate", "--strategy", strategy, "--run", run.root, cwd=tmp_path)
    assert done.status == 2
    assert f"--server-optimizer {strategy}: needs the number of all clients" in done.err
    assert "fedcli init --clients" in done.err


# --- what clients read ---------------------------------------------------------------------------


def scaffolded(root: Path) -> Run:
    run = new_run(root, tensors(0), ("0",))
    bring(run, "0", 1, some(1))
    aggregate(run, options=SCAFFOLD)
    return run


def test_there_is_no_control_before_the_server_keeps_one(tmp_path: Path) -> None:
    run = filled(tmp_path / "run", {"0": tensors(1)})
    assert read_slot(run, 1, "control") == ({}, None)
    aggregate(run)
    assert read_slot(run, 2, "control") == ({}, None)
    deliver(run, "0", tensors(2), round_number=2)
    aggregate(run, options={"strategy": "fedadam"})
    assert read_slot(run, 3, "control") == ({}, None)
    found, _ = read_slot(run, 3, "variance")
    assert found.keys() == set(PARAMETERS)


def test_a_control_that_does_not_belong_to_the_model_is_not_read(tmp_path: Path) -> None:
    run = scaffolded(tmp_path / "run")
    round_ = run.round(1)
    files = {path: path.read_bytes() for path in round_.path.iterdir() if path.is_file()}
    cases: list[tuple[Path, bytes | None, type[Exception], str]] = [
        (round_.server_state, None, NotReadyError, "no such file"),
        (round_.server_state, files[round_.global_model], BadInputError, "is not the state that"),
        (round_.global_model, files[round_.server_state], BadInputError, "does not describe"),
        (round_.manifest, None, BadInputError, "does not say whether"),
    ]
    for path, content, error, message in cases:
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(error, match=message):
            read_slot(run, 2, "control")
        path.write_bytes(files[path])
    for path in (round_.server_state, round_.manifest):  # only the model was copied
        path.unlink()
    with pytest.raises(NotReadyError, match=r"aggregate\.json: .*whether the server keeps control"):
        read_slot(run, 2, "control")


# --- FedDyn --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 3.0])
def test_feddyn_takes_the_step_of_its_paper(tmp_path: Path, alpha: float) -> None:
    """Acar et al. 2021, algorithm 1, with h as it is written there."""
    run = new_run(tmp_path / "run", tensors(0), FIVE)
    h = {name: np.zeros_like(v, np.float64) for name, v in some(0).items()}
    for number, present in ((1, "01234"), (2, "13"), (3, "024"), (4, "4")):
        before = loaded(run.round(number - 1).global_model)
        training = {"feddyn_alpha": alpha}
        models = [bring(run, client, number, {}, training=training) for client in present]
        found = loaded(aggregate(run, options=FEDDYN, min_clients=1).path)
        state, _ = read_slot(run, number + 1, "dual")
        for name in PARAMETERS:
            moves = [model[name].astype(float) - before[name] for model in models]
            h[name] = h[name] - alpha / 5 * np.sum(moves, axis=0)
            expected = before[name] + np.mean(moves, axis=0) - h[name] / alpha
            np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-5)
            np.testing.assert_allclose(state[name], h[name] / alpha, rtol=1e-5, atol=1e-5)
        mean = np.mean([model["bn.running_mean"] for model in models], axis=0)
        np.testing.assert_allclose(found["bn.running_mean"], mean, rtol=1e-6, atol=1e-7)


def test_without_its_term_feddyn_is_uniform_fedavg_to_the_bit(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tensors(0), FIVE)
    plain = new_run(tmp_path / "plain", tensors(0), FIVE)
    for number in (1, 2, 3):
        for client in FIVE[number - 1 :]:
            model = bring(run, client, number, {}, training={"feddyn_alpha": 0})
            deliver(plain, client, model, round_number=number)
        result = aggregate(run, options=FEDDYN, min_clients=1)
        expected = aggregate(plain, options={"weighting": "uniform"}, min_clients=1)
        same_bits(loaded(result.path), loaded(expected.path))
        assert not any(values.any() for values in loaded(run.round(number).server_state).values())


@pytest.mark.parametrize("alpha", [0.2, 0, -1, None, "0.1"])
def test_feddyn_needs_one_alpha(tmp_path: Path, alpha: Any) -> None:
    run = new_run(tmp_path / "run", tensors(0), ("0", "1", "2"))
    for client in "012":
        training = {"feddyn_alpha": alpha if client == "2" else 0.1}
        bring(run, client, 1, {}, training=training)
    expected = r"same feddyn_alpha of all clients, found 0\.1 for 0 and 0(\.2)? for 2"
    if not isinstance(alpha, float | int):
        expected = r"2\.safetensors: records no feddyn_alpha"
    elif alpha < 0:
        expected = r"2\.safetensors: this rule expects feddyn_alpha"
    for step in (
        lambda: aggregate(run, options=FEDDYN),
        lambda: partial(run, [], tmp_path / "edge.safetensors", options=FEDDYN),
    ):
        with pytest.raises(UpdateError, match=expected):
            step()
    left = edge(run, "left", "0", "1", options=FEDDYN)
    with pytest.raises(UpdateError, match="feddyn_alpha"):
        aggregate(run, members=[left, "2"], options=FEDDYN)
