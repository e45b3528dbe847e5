"""Encoded updates in a round: they count as the plain updates that they stand for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoded import encode_update
from support.handmade import (
    ALL_ROLES,
    RULE_OPTIONS,
    SEVEN,
    bring_controls,
    edge,
    engine,
    loaded,
    new_run,
    of_every_kind,
    same_bits,
    server,
    snapshot,
    wide,
)
from support.runs import ROLES, accepted, deliver, tensors

from fedcli.aggregation import admission, blocks
from fedcli.codecs import CHUNK, Chunk
from fedcli.codecs.round import Round
from fedcli.errors import UpdateError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.metadata import Role
from fedcli.run import Run
from fedcli.steps.aggregate import AggregateResult, aggregate
from fedcli.strategies import STRATEGIES

SPECS = ("float16", "int8", "sign", "round=0.07", "topk=0.1", "topk=0.1,float16", "randk=0.1")
COORDINATE_WISE = ("median", "trimmed-mean", "bulyan")
pytestmark = pytest.mark.usefixtures("unsynced")


def two_runs(root: Path, base: Any, clients: tuple[str, ...], roles: Any = None) -> list[Run]:
    """Two equal runs: one for encoded updates, one for what they stand for."""
    return [new_run(root / name, base, clients, roles) for name in ("encoded", "plain")]


def encode(run: Run, plain: Run, spec: str, number: int = 1) -> None:
    """Encode the updates of a round in one run, and put what they stand for into the other."""
    for client in run.round(number).delivered():
        path = run.round(number).update(client)
        with Checkpoint(path) as update:
            said = update.metadata
        if said.encoding is None:
            meant = encode_update(run, path, spec)
            base = digest(plain.round(number - 1).global_model)
            save(plain.round(number).update(client), meant, replace(said, base=base))


def same_models(one: Run, other: Run, number: int = 1) -> None:
    same_bits(loaded(one.round(number).global_model), loaded(other.round(number).global_model))


@pytest.mark.parametrize("spec", SPECS)
def test_an_encoded_update_counts_as_what_it_stands_for(tmp_path: Path, spec: str) -> None:
    clients = ("0", "1", "2")
    run, plain = two_runs(tmp_path, of_every_kind(0), clients, ALL_ROLES)
    for client in clients:
        deliver(run, client, of_every_kind(int(client) + 1), roles=ALL_ROLES)
    encode(run, plain, spec)
    result = engine(run, "fedavg")
    assert accepted(result) == [*clients]
    same_figures(result, engine(plain, "fedavg"))
    same_models(run, plain)


def same_figures(one: AggregateResult, other: AggregateResult) -> None:
    for a, b in zip(one.clients, other.clients, strict=True):
        assert (a.norm, a.cosine) == pytest.approx((b.norm, b.cosine), rel=1e-5)
        assert a.distance == pytest.approx(b.distance, rel=0.05)  # of other samples


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_rule_takes_encoded_updates(tmp_path: Path, strategy: str) -> None:
    training = {"lr": 0.1, "momentum": 0.9, "initial_loss": 2.0, "steps": 10, "feddyn_alpha": 0.1}
    run, plain = two_runs(tmp_path, wide(0), SEVEN)
    for client in SEVEN:
        deliver(run, client, wide(int(client) + 1), training=training)
    bring_controls(run, strategy)
    encode(run, plain, "int8" if strategy in COORDINATE_WISE else "round=0.1")
    engine(run, strategy)
    engine(plain, strategy)
    same_models(run, plain)


@pytest.mark.parametrize("strategy", COORDINATE_WISE)
def test_rules_of_single_coordinates_refuse_sparse_updates(tmp_path: Path, strategy: str) -> None:
    run, plain = two_runs(tmp_path, wide(0), SEVEN)
    for client in SEVEN:
        deliver(run, client, wide(int(client) + 1))
    encode(run, plain, "topk=0.1,float16")
    before = snapshot(run)
    with pytest.raises(UpdateError, match=r"encoded as topk=0\.1,float16.*coordinate alone") as e:
        aggregate(run, options={"strategy": strategy, **RULE_OPTIONS.get(strategy, {})})
    assert "--encode int8" in str(e.value.hint)
    assert snapshot(run) == before


@pytest.mark.parametrize("spec", ["round=0.1", "randk=0.2", "float16"])
def test_a_late_update_is_decoded_against_its_own_base(tmp_path: Path, spec: str) -> None:
    run, plain = two_runs(tmp_path, wide(0), ("0", "1"))
    deliver(run, "0", wide(1))
    encode(run, plain, spec)
    for one in (run, plain):
        server(one, "fedbuff", buffer=1)
    deliver(run, "0", wide(3), round_number=2)
    deliver(run, "1", wide(4), round_number=1)
    for number in (1, 2):
        encode(run, plain, spec, number)
    for one in (run, plain):
        result = server(one, "fedbuff", buffer=2)
        assert {(c.client, c.round) for c in result.clients} == {("0", 2), ("1", 1)}
    same_models(run, plain, 2)


def test_partial_means_of_encoded_updates_are_those_of_plain_ones(tmp_path: Path) -> None:
    run, plain = two_runs(tmp_path, wide(0), ("0", "1", "2"))
    deliver_wide(run, ("0", "1", "2"))
    encode(run, plain, "round=0.1")
    made = [edge(one, name, "0", "1") for one, name in ((run, "of-encoded"), (plain, "of-plain"))]
    same_bits(loaded(Path(made[0])), loaded(Path(made[1])))
    for one, path in zip((run, plain), made, strict=True):
        aggregate(one, members=[path, "2"])
    same_models(run, plain)


def deliver_wide(run: Run, clients: tuple[str, ...]) -> None:
    for client in clients:
        deliver(run, client, wide(int(client) + 1))


def test_neither_order_of_arrival_nor_threads_change_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set()
    for number, (clients, threads) in enumerate(
        [(SEVEN, 1), (SEVEN[::-1], 2), (SEVEN[3:] + SEVEN[:3], 8)]
    ):
        run = new_run(tmp_path / str(number) / "run", wide(0), SEVEN)
        for client in clients:
            deliver(run, client, wide(int(client) + 1))
            encode_update(run, run.round(1).update(client), "round=0.1")
        monkeypatch.setattr(blocks, "available_cores", lambda count=threads: count)
        engine(run, "fedavg")
        made.add(digest(run.round(1).global_model))
    assert len(made) == 1


def test_the_size_of_blocks_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set()
    for size in (4096, 100_000, 256 * 1024):
        run = new_run(tmp_path / str(size) / "run", wide(0))
        deliver_wide(run, ("0", "1", "2"))
        for client in ("0", "1", "2"):
            encode_update(run, run.round(1).update(client), "randk=0.1")
        monkeypatch.setattr("fedcli.aggregation.reduce.BLOCK_BYTES", size)
        engine(run, "fedavg")
        made.add(digest(run.round(1).global_model))
    assert len(made) == 1


@pytest.mark.parametrize(("spec", "strategy"), [("round=0.1", "fedavg"), ("int8", "krum")])
def test_files_that_are_opened_for_each_block_give_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, strategy: str
) -> None:
    made = set()
    for most in (256, 1):
        monkeypatch.setattr(admission, "_KEPT_OPEN", most)
        run = new_run(tmp_path / str(most) / "run", wide(0), SEVEN)
        for client in SEVEN:
            deliver(run, client, wide(int(client) + 1))
            encode_update(run, run.round(1).update(client), spec)
        engine(run, strategy)
        made.add(digest(run.round(1).global_model))
    assert len(made) == 1


@pytest.mark.parametrize("spec", ["round=0.1", "int8"])
def test_plain_updates_count_beside_encoded_ones(tmp_path: Path, spec: str) -> None:
    """A client may leave the planned encoding."""
    run, plain = two_runs(tmp_path, wide(0), ("0", "1", "2"))
    deliver_wide(run, ("1",))
    encode(run, plain, spec)
    for one in (run, plain):
        deliver_wide(one, ("0", "2"))
        engine(one, "fedavg")
    same_models(run, plain)


def test_a_chunk_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = {
        **tensors(0),
        "a.weight": np.linspace(-1, 1, 2 * CHUNK + 100, dtype=np.float32),
        "d.running_var": np.ones(500, np.float32),
    }
    roles = {**ROLES, "d.running_var": Role.BUFFER}
    run = new_run(tmp_path / "run", base, roles=roles)
    rng = np.random.default_rng(1)
    for client in ("0", "1", "2"):
        values = {n: (x + rng.standard_normal(x.shape)).astype(x.dtype) for n, x in base.items()}
        deliver(run, client, values, roles=roles)
        encode_update(run, run.round(1).update(client), "round=0.3")
    decoded, sent = [], Round.sent

    def counted(codec: Round, chunk: Chunk) -> Any:
        decoded.append(chunk.first)
        return sent(codec, chunk)

    monkeypatch.setattr(Round, "sent", counted)
    aggregate(run, diagnostics=False)
    assert sorted(decoded) == sorted(3 * [0, CHUNK, 2 * CHUNK])


def rewritten(path: Path, change: Any) -> None:
    """Write an encoded update again, with other tensors or metadata."""
    with Checkpoint(path) as update:
        tensors, said = update.tensors(), update.metadata
    tensors, said = change(tensors, said)
    save(path, tensors, said)


def another(**changes: Any) -> Any:
    return lambda tensors, said: (tensors, replace(said, **changes))


def without(name: str) -> Any:
    return lambda tensors, said: ({k: v for k, v in tensors.items() if k != name}, said)


def with_tensor(name: str, values: Any) -> Any:
    return lambda tensors, said: ({**tensors, name: values}, said)


def with_damaged_data(tensors: Any, said: Any) -> Any:
    return {**tensors, "encoded/data": np.zeros_like(tensors["encoded/data"])}, said


FAULTS: dict[str, tuple[Any, str]] = {
    "base": (another(base="0" * 64), "was trained from another base model"),
    "encoding": (another(encoding={"name": "zip"}), "unknown encoding 'zip'"),
    "share": (another(encoding={"name": "round", "share": 2.0}), "share above 0, at most 1"),
    "another than recorded": (
        another(encoding={"name": "float16"}),
        "is encoded as float16, but records that it is encoded as 'round=0.1'",
    ),
    "a long name": (another(encoding={"name": "x" * 10**5}), "which is not a known encoding"),
    "colours": (another(encoding={"name": "\x1b[31mred"}), "which is not a known encoding"),
    "more keys": (
        another(encoding={"name": "int8", "share": 0.5}),
        "expected int8, found 'int8=0.5'",
    ),
    "roles": (another(roles=ROLES), "only controls have one"),
    "a control": (
        another(roles={"control/fc.weight": Role.CONTROL}),
        "which is not in the update of client 0",
    ),
    "no table": (without("encoded/table"), "tensor 'encoded/table' is missing"),
    "no buffers": (without("encoded/buffers"), "tensor 'encoded/buffers' is missing"),
    "wrong scales": (
        with_tensor("encoded/scales", np.zeros(5, np.float32)),
        r"'encoded/scales': expected \[4\] of float32, found \[5\] of float32",
    ),
    "one more tensor": (
        with_tensor("encoded/more", np.zeros(5, np.float32)),
        "has a tensor 'encoded/more' that its encoding does not have",
    ),
    "damaged data": (with_damaged_data, "a stream of its encoding is damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_update_is_refused_with_a_reason_or_left_out(tmp_path: Path, fault: str) -> None:
    clients = ("0", "1", "2")
    run, plain = two_runs(tmp_path, wide(0), clients)
    deliver_wide(run, clients)
    encode(run, plain, "round=0.1")
    change, reason = FAULTS[fault]
    rewritten(run.round(1).update("1"), change)
    before = snapshot(run)
    with pytest.raises(UpdateError, match=reason) as e:
        aggregate(run, strict=True)
    assert e.value.path == run.round(1).update("1")
    assert e.value.client == "1"
    assert e.value.hint is not None
    assert len(e.value.message) < 500
    assert e.value.message.isprintable()
    assert snapshot(run) == before
    plain.round(1).update("1").unlink()
    result = aggregate(run, min_clients=2)
    aggregate(plain, min_clients=2)
    assert [absence.client for absence in result.rejected] == ["1"]
    same_models(run, plain)


def test_all_bad_updates_are_named_at_once(tmp_path: Path) -> None:
    clients = ("0", "1", "2", "3")
    run, plain = two_runs(tmp_path, wide(0), clients)
    deliver_wide(run, clients)
    encode(run, plain, "round=0.1")
    for client in ("0", "2"):
        rewritten(run.round(1).update(client), with_damaged_data)
    with pytest.raises(UpdateError) as e:
        aggregate(run, strict=True)
    assert [error.client for error in e.value.each] == ["0", "2"]
    rewritten(run.round(1).update("3"), another(encoding={"name": "zip"}))
    with pytest.raises(UpdateError) as e:
        aggregate(run, strict=True)
    assert "3" in [error.client for error in e.value.each]
