"""FedAvg is a float64 weighted sum in client order, rounded once, to the bit."""

import hashlib
import json
import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file
from support.handmade import Tensors, loaded, new_run, same_bits, wide
from support.runs import ROLES, deliver, run_info, tensors

from fedcli.aggregation.blocks import Block, Reader, TensorSlice, reduce_blocks
from fedcli.aggregation.weighted_sums import largest, weighted_sum
from fedcli.errors import UpdateError
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.dtypes import BFLOAT16, DTYPE_NAMES, as_float, from_float
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.run import Run
from fedcli.run.info import client_order
from fedcli.steps.aggregate import aggregate


def reference(updates: dict[str, Tensors], counts: dict[str, int]) -> Tensors:
    """Stack, add up in float64, and divide, the whole tensors at once."""
    order = client_order(updates)
    result = {}
    for name, first in updates[order[0]].items():
        stack = np.stack([updates[client][name] for client in order])
        if first.dtype.kind == "i":
            result[name] = stack.max(axis=0)
        else:
            w = np.array([counts[client] for client in order], np.float64)
            terms = stack.astype(np.float64) * w.reshape(-1, *[1] * first.ndim)
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            result[name] = (total / w.sum()).astype(first.dtype)
    return result


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
@pytest.mark.parametrize("arrival", [("2", "10", "north", "9"), ("north", "9", "10", "2")])
def test_equals_the_stacked_sum_in_client_order_for_any_order_of_arrival(
    tmp_path: Path, arrival: tuple[str, ...], weighting: str
) -> None:
    run = new_run(tmp_path, wide(0), ("2", "9", "10", "north"))
    examples = {"2": 7, "9": 1000, "10": 3, "north": 1}
    updates = {client: wide(i) for i, client in enumerate(examples, start=1)}
    for client in arrival:
        deliver(run, client, updates[client], num_examples=examples[client])
    result = aggregate(run, options={"weighting": weighting, "max_examples": 1000})
    counts = examples if weighting == "examples" else dict.fromkeys(examples, 1)
    weights = {c: n / sum(counts.values()) for c, n in counts.items()}
    assert [c.client for c in result.clients] == ["2", "9", "10", "north"]
    assert {c.client: c.weight for c in result.clients} == weights
    same_bits(loaded(result.path), reference(updates, counts))


def test_three_clients_by_hand(tmp_path: Path) -> None:
    def model(value: float, count: int) -> Tensors:
        return {
            "w": np.array([value, -value], np.float32),
            "bn.num_batches_tracked": np.int64(count),
        }

    run = Run.create(tmp_path, run_info())
    roles = {"bn.num_batches_tracked": Role.COUNTER}
    save(
        run.round(0).global_model, model(0, 0), Metadata(Kind.GLOBAL, run.id, round=0, roles=roles)
    )
    for client, value, count, examples in (("0", 1, 5, 1), ("1", 2, 9, 1), ("2", 8, 7, 2)):
        deliver(run, client, model(value, count), num_examples=examples, roles=roles)
    result = loaded(aggregate(run).path)
    assert result["w"].tolist() == [0.25 * 1 + 0.25 * 2 + 0.5 * 8, -4.75]
    assert result["bn.num_batches_tracked"].dtype == np.int64
    assert result["bn.num_batches_tracked"] == 9


def test_one_client_gives_that_clients_model(tmp_path: Path) -> None:
    run = new_run(tmp_path, wide(0), ("7",))
    deliver(run, "7", wide(5))
    assert np.signbit(wide(5)["z.weight"]).all()
    same_bits(loaded(aggregate(run).path), wide(5))


def test_equal_updates_give_that_update_with_equal_weights(tmp_path: Path) -> None:
    run = new_run(tmp_path, wide(0), ("0", "1"))
    for client in "01":
        deliver(run, client, wide(3), num_examples=10)
    same_bits(loaded(aggregate(run).path), wide(3))


def test_the_sum_is_in_float64_and_not_in_float32(tmp_path: Path) -> None:
    run = new_run(tmp_path, {"w": np.zeros(1, np.float32)}, tuple(map(str, range(100))))
    rng = np.random.default_rng(0)
    values = rng.standard_normal(100).astype(np.float32) * np.float32(1e4)
    for client in range(100):
        values_of = {"w": values[client : client + 1]}
        deliver(run, str(client), values_of, num_examples=client + 1)
    shares = np.arange(1, 101) / 5050
    exact = float(np.sum(values.astype(np.longdouble) * shares.astype(np.longdouble)))
    found = loaded(aggregate(run).path)["w"]
    assert found == np.float32(exact)
    in_float32 = np.float32(0)
    for value, share in zip(values, shares.astype(np.float32), strict=True):
        in_float32 += value * share
    assert found != in_float32


@pytest.mark.parametrize("dtype", [np.dtype("<f2"), BFLOAT16, np.dtype("<f8")])
def test_half_precision_is_rounded_once(tmp_path: Path, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    models = [{"w": from_float(rng.standard_normal(1000), dtype)} for _ in range(4)]
    run = new_run(tmp_path, models[0])
    for client in range(3):
        deliver(run, str(client), models[client + 1], num_examples=client + 1)
    found = loaded(aggregate(run).path)["w"]
    total = np.zeros(1000)
    for client in range(3):
        total += np.float64(client + 1) * as_float(models[client + 1]["w"])
    total /= 6
    assert found.dtype == dtype
    spacing = np.abs(total) * {"f2": 2.0**-11, "V2": 2.0**-8, "f8": 0.0}[dtype.str[1:]]
    assert (np.abs(as_float(found).astype(np.float64) - total) <= spacing + 1e-7).all()
    assert from_float(total, dtype).tobytes() == found.tobytes()


def test_fifteen_hundred_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # to make them faster
    clients = tuple(map(str, range(1500)))
    run = new_run(tmp_path, tensors(0), clients)
    updates = {client: tensors(int(client)) for client in clients}
    for client in random.Random(0).sample(clients, len(clients)):
        deliver(run, client, updates[client])
    counts = {client: 10 + int(client) for client in clients}
    same_bits(loaded(aggregate(run).path), reference(updates, counts))


def test_a_file_of_another_tool_in_another_order(tmp_path: Path) -> None:
    run = new_run(tmp_path, wide(0))
    updates = {client: wide(int(client) + 1) for client in "012"}
    digests = {client: deliver(run, client, updates[client]) for client in "012"}
    path = run.round(1).update("1")
    with Checkpoint(path) as checkpoint:
        text = checkpoint.metadata.encode()
    header: Tensors = {"__metadata__": {"fedcli": text, "of": "another tool"}}
    data = b""
    for name, values in sorted(updates["1"].items(), key=lambda item: item[0][::-1]):
        begin, data = len(data), data + values.tobytes()
        dtype = DTYPE_NAMES[values.dtype]
        offsets = [begin, len(data)]
        header[name] = {"data_offsets": offsets, "shape": values.shape, "dtype": dtype}
    encoded = json.dumps(header, indent=1).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
    same_bits({k: np.asarray(v) for k, v in updates["1"].items()}, load_file(path))
    result = aggregate(run)
    counts = {client: 10 + int(client) for client in "012"}
    same_bits(loaded(result.path), reference(updates, counts))
    foreign = hashlib.sha256(path.read_bytes()).hexdigest()
    assert {c.client: c.sha256 for c in result.clients} == {**digests, "1": foreign}


@pytest.mark.parametrize("client", ["0", "5", "9"])
@pytest.mark.parametrize("place", [0, -1])
def test_one_bad_value_in_any_block_stops_every_thread(
    tmp_path: Path, client: str, place: int
) -> None:
    clients = tuple(map(str, range(10)))
    run = new_run(tmp_path, wide(0), clients)
    for name in clients:
        values = wide(int(name))
        if name == client:
            values["a.weight"][place] = np.nan
        deliver(run, name, values)
    threads = threading.active_count()
    with pytest.raises(UpdateError, match=rf"{client}\.safetensors: tensor 'a.weight': 1 of"):
        aggregate(run)
    assert threading.active_count() == threads


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    models = []
    for place in ("here", "there"):
        run = new_run(tmp_path / place, wide(0))
        for client in "120" if place == "here" else "021":
            deliver(run, client, wide(int(client)))
        models.append(aggregate(run).path.read_bytes())
    assert models[0] == models[1]


def test_the_chain_of_digests(tmp_path: Path) -> None:
    run = new_run(tmp_path, tensors(0))
    for number in (1, 2):
        digests = {
            client: deliver(run, client, tensors(int(client) + number), round_number=number)
            for client in "012"
        }
        result = aggregate(run)
        with Checkpoint(result.path, Kind.GLOBAL) as model:
            assert model.digest() == result.sha256
            assert model.metadata == replace(
                model.metadata,
                run=run.id,
                round=number,
                client=None,
                num_examples=33,
                roles=ROLES,
                updates=digests,
            )
            with Checkpoint(run.round(number - 1).global_model) as base:
                assert model.metadata.base == base.digest()


class InMemory:
    """Values that blocks are read from, as if they were a file's."""

    in_order = False

    def __init__(self, values: Any) -> None:
        self.values = values

    def dtype(self, block: Block) -> Any:
        return self.values.dtype

    def read(self, block: Block, into: Any) -> None:
        into[...] = self.values

    def seen(self, _: Block, reader: Reader) -> Any:
        return reader.read(self)


def whole_block(values: Any) -> Block:
    part = TensorSlice("w", Role.PARAMETER, slice(0, len(values)), 0)
    return Block(values.dtype, False, 0, values.nbytes, (part,))


def reduced(blocks: list[Any], reduce: Callable[[Block, Reader, list[InMemory]], Any]) -> Any:
    sources = [InMemory(values) for values in blocks]

    def work(block: Block, reader: Reader) -> Any:
        return reduce(block, reader, sources).copy()

    ((_, result),) = reduce_blocks(sources, [whole_block(blocks[0])], work)
    return result


class InOrder(InMemory):
    """Values that have to be read block by block, and the blocks that were."""

    in_order = True

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        self.seen: list[float] = []
        self.reading = threading.Lock()

    def read(self, block: Block, into: Any) -> None:
        assert self.reading.acquire(blocking=False), "two threads read it at once"
        self.seen.append(block.start)
        into[...] = self.values + block.start
        self.reading.release()


def blocks_in_order(count: int) -> list[Block]:
    part = TensorSlice("w", Role.PARAMETER, slice(0, 4), 0)
    return [Block(np.dtype(np.float32), False, n, n + 16, (part,)) for n in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_a_reader_gives_each_source_its_own_values_in_whatever_order(seed: int) -> None:
    sources = [InOrder(np.full(4, 1000 * n, np.float32)) for n in range(7)]

    def reduce(block: Block, reader: Reader) -> dict[int, float]:
        order = np.random.default_rng((seed, block.start)).permutation(7)[:5].tolist()
        return {n: float(reader.read(sources[n])[0]) for n in order}

    for block, found in reduce_blocks(sources, blocks_in_order(40), reduce, threads=3):
        assert found == {n: 1000 * n + block.start for n in found}
    assert all(source.seen == list(range(40)) for source in sources)  # also what was not asked for


def test_a_source_that_is_hashed_is_read_once_in_a_block() -> None:
    source = InOrder(np.ones(4, np.float32))

    def reduce(_: Block, reader: Reader) -> None:
        reader.read(source)
        reader.read(source)

    with pytest.raises(ValueError, match="read twice"):
        list(reduce_blocks([source], blocks_in_order(9), reduce, threads=3))


@pytest.mark.parametrize("at", [0, 3, 8])
def test_after_an_error_in_a_block_no_thread_waits_for_ever(at: int) -> None:
    sources = [InOrder(np.ones(4, np.float32)) for _ in range(3)]

    def reduce(block: Block, reader: Reader) -> None:
        for source in sources:
            reader.read(source)
            if block.start == at:
                raise ArithmeticError

    with pytest.raises(ArithmeticError):
        list(reduce_blocks(sources, blocks_in_order(9), reduce, threads=3))


floats = st.floats(-(2.0**100), 2.0**100, width=32)


@given(st.lists(arrays(np.float32, 5, elements=floats), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_a_mean_lies_between_its_clients(blocks: list[Any]) -> None:
    stack = np.stack(blocks).astype(np.float64)
    factors = [1 / len(blocks)] * len(blocks)
    mean = reduced(blocks, lambda b, r, sources: weighted_sum(b, r, sources, factors))
    slack = 1e-12 * np.abs(stack).max(axis=0)
    assert (mean >= stack.min(axis=0) - slack).all()
    assert (mean <= stack.max(axis=0) + slack).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_no_weight_hides_a_value_that_is_not_finite(bad: float, place: int) -> None:
    blocks = [np.ones(4, np.float32) for _ in range(3)]
    blocks[place][2] = bad
    mean = reduced(blocks, lambda b, r, sources: weighted_sum(b, r, sources, [0.0, 1e-300, 1.0]))
    assert np.isfinite(mean).tolist() == [True, True, False, True]


@given(arrays(np.int64, st.integers(1, 9), elements=st.integers(-(2**63), 2**63 - 1)))
@settings(max_examples=30, deadline=None)
def test_counters_are_exact(values: Any) -> None:
    found = reduced([values, values - (values > 0)], lambda _, r, sources: largest(r, sources))
    assert found.dtype == np.int64
    assert (found == values).all()


@given(arrays(np.float64, 20, elements=st.floats(-3e38, 3e38)))
def test_bfloat16_is_the_nearest_of_its_neighbours(values: Any) -> None:
    found = from_float(values, BFLOAT16)
    error = np.abs(as_float(found).astype(np.float64) - values)
    bits = found["bfloat16"].astype(np.int64)
    for step in (-1, 1):
        neighbour = ((bits + step) & 0xFFFF).astype(np.uint16).view(BFLOAT16)
        other = as_float(neighbour).astype(np.float64)
        closer = np.abs(other - values) < error
        assert not (closer & np.isfinite(other) & np.isfinite(as_float(found))).any()
