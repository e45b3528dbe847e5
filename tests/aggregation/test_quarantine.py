"""Bad updates: left where they are, left out of the sum, with the reason in the manifest."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import copied, loaded, new_run, same_bits, snapshot, wide
from support.runs import ROLES, deliver, fedcli

from fedcli.errors import ConflictError, FedcliError, NotReadyError, UpdateError, UsageError
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.manifest import Manifest
from fedcli.plan import AggregatePlan
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.partial import partial as partial_mean
from fedcli.storage.atomic import write_json

CLIENTS = ("0", "1", "2", "3")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Four clients that have delivered."""
    made = new_run(tmp_path / "fedrun", wide(0), CLIENTS)
    for client in CLIENTS:
        deliver(made, client, wide(int(client) + 1))
    return made


def truncated(run: Run, client: str) -> None:
    path = run.round(1).update(client)
    path.write_bytes(path.read_bytes()[:-3])


def no_checkpoint(run: Run, client: str) -> None:
    run.round(1).update(client).write_bytes(b"good morning")


def with_nan(run: Run, client: str) -> None:
    values = wide(9)
    values["a.weight"].reshape(-1)[0] = np.nan
    deliver(run, client, values)


def with_another_bit(run: Run, client: str) -> None:
    path = run.round(1).update(client)
    noted = {"sha256": deliver(run, client, wide(9))}
    write_json(run.round(1).telemetry(client), noted)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def says(path: Path, **changes: Any) -> None:
    with Checkpoint(path) as update:
        save(path, update.tensors(), replace(update.metadata, **changes))


def of_another_base(run: Run, client: str) -> None:
    says(run.round(1).update(client), base="0" * 64)


def of_another_run(run: Run, client: str) -> None:
    says(run.round(1).update(client), run="0" * 64)


def of_another_client(run: Run, client: str) -> None:
    says(run.round(1).update(client), client="3")


def of_another_round(run: Run, client: str) -> None:
    says(run.round(1).update(client), round=2)


def of_another_shape(run: Run, client: str) -> None:
    deliver(run, client, {**wide(9), "a.weight": np.zeros(7, np.float32)})


def of_a_billion_and_one(run: Run, client: str) -> None:
    says(run.round(1).update(client), num_examples=10**9 + 1)


def withholding(run: Run, client: str) -> None:
    values = wide(9)
    del values["a.weight"]
    roles = {name: role for name, role in ROLES.items() if name in values}
    deliver(run, client, values, roles=roles, training={"epochs": 1, "freeze": ["a.weight"]})


FAULTS: list[tuple[Callable[[Run, str], None], str]] = [
    (truncated, "truncated or too long"),
    (no_checkpoint, "not a safetensors file, or truncated"),
    (with_nan, "tensor 'a.weight': 1 of"),
    (with_another_bit, "was changed after the client wrote it: SHA-256"),
    (of_another_base, "was trained from another base model than"),
    (of_another_run, "belongs to run 0000"),
    (of_another_client, "belongs to client"),
    (of_another_round, "belongs to round 2, expected 1"),
    (of_another_shape, "tensor 'a.weight': expected shape"),
    (of_a_billion_and_one, "has num_examples 1000000001, expected 1000000000 at most"),
    (withholding, "withholds tensor 'a.weight', which"),
]
faults = pytest.mark.parametrize(("spoil", "reason"), FAULTS, ids=[f.__name__ for f, _ in FAULTS])


def model_of(run: Run, root: Path, clients: list[str]) -> dict[str, Any]:
    """The global model of these clients only."""
    return loaded(aggregate(copied(run, root), members=clients).path)


@faults
@pytest.mark.parametrize("client", ["0", "2"])
def test_a_bad_update_is_left_where_it_is_and_out_of_the_sum(
    run: Run, tmp_path: Path, spoil: Callable[[Run, str], None], reason: str, client: str
) -> None:
    others = [one for one in CLIENTS if one != client]
    expected = model_of(run, tmp_path / "others", others)
    spoil(run, client)
    spoilt = run.round(1).update(client).read_bytes()
    result = aggregate(run, min_clients=3)
    same_bits(loaded(result.path), expected)
    (rejected,) = result.rejected
    assert (rejected.client, rejected.round) == (client, 1)
    assert rejected.reason.startswith(reason)
    assert [entry.client for entry in result.clients] == others
    manifest = Manifest.try_read(run.round(1).manifest)
    assert manifest is not None
    assert manifest.rejected == result.rejected
    assert run.round(1).update(client).read_bytes() == spoilt
    before = snapshot(run)
    assert aggregate(run, round_number=1, min_clients=3).already_done
    assert snapshot(run) == before


@faults
@pytest.mark.parametrize("how", [{}, {"min_clients": 4}, {"min_clients": 3, "strict": True}])
def test_it_ends_the_round_where_everybody_is_needed(
    run: Run, spoil: Callable[[Run, str], None], reason: str, how: dict[str, Any]
) -> None:
    spoil(run, "1")
    before = snapshot(run)
    with pytest.raises(UpdateError) as caught:
        aggregate(run, **how)
    assert caught.value.message.startswith(f"{run.round(1).update('1')}: {reason}")
    assert snapshot(run) == before


def test_several_are_set_aside_one_after_another(run: Run, tmp_path: Path) -> None:
    expected = model_of(run, tmp_path / "others", ["3"])
    truncated(run, "0")
    with_nan(run, "1")
    with_another_bit(run, "2")
    with pytest.raises(UpdateError):
        aggregate(run, min_clients=2)
    result = aggregate(run, min_clients=1)
    same_bits(loaded(result.path), expected)
    assert [absence.client for absence in result.rejected] == ["0", "1", "2"]


def test_most_updates_say_what_an_update_holds(run: Run) -> None:
    withholding(run, "0")
    (rejected,) = aggregate(run, min_clients=1).rejected
    assert rejected.reason.startswith(
        "withholds tensor 'a.weight', which is in most of the updates"
    )


def test_a_run_without_a_list_of_clients_goes_on_with_the_others(tmp_path: Path) -> None:
    run = new_run(tmp_path, wide(0), ())
    for client in ("north", "south"):
        deliver(run, client, wide(3))
    truncated(run, "north")
    assert [absence.client for absence in aggregate(run).rejected] == ["north"]
    truncated(run, "south")
    with pytest.raises(UpdateError, match="truncated"):
        aggregate(run, round_number=1, force=True)


def test_an_update_that_is_mended_later_counts_only_by_force(run: Run) -> None:
    truncated(run, "1")
    aggregate(run, min_clients=3)
    deliver(run, "1", wide(2))
    with pytest.raises(ConflictError, match="was made from clients 0, 2, 3, not 0, 1, 2, 3"):
        aggregate(run, round_number=1, min_clients=3)
    assert aggregate(run, round_number=1, min_clients=3, force=True).rejected == ()


def test_a_buffer_goes_on_without_it(tmp_path: Path) -> None:
    run = new_run(tmp_path, wide(0), CLIENTS)
    for client in ("0", "1", "2"):
        deliver(run, client, wide(int(client) + 1))
    with_nan(run, "1")
    options = {"strategy": "fedbuff", "buffer": 2}
    assert [one.client for one in aggregate(run, options=options).clients] == ["0", "2"]
    with_nan(run, "2")
    with pytest.raises(UpdateError, match="NaN or infinite"):
        aggregate(run, round_number=1, options=options, force=True)


def test_a_rule_that_needs_more_than_are_left_says_so(run: Run) -> None:
    truncated(run, "1")
    with pytest.raises((NotReadyError, UsageError), match="krum"):
        aggregate(run, min_clients=3, options={"strategy": "krum", "byzantine": 1})
    assert not run.round(1).global_model.exists()


def far(run: Run, client: str, distance: float) -> None:
    """Deliver the base model with one parameter moved; buffers and counters have no norm."""
    values = {name: value.copy() for name, value in wide(0).items()}
    values["a.weight"].reshape(-1)[0] += np.float32(distance)
    deliver(run, client, values)


@pytest.mark.parametrize("strategy", ["fedavg", "median", "rfa"])
def test_updates_that_go_too_far_are_left_out(run: Run, strategy: str) -> None:
    for client, distance in zip(CLIENTS, (1, 2, 8, 3), strict=True):
        far(run, client, distance)
    options = {"strategy": strategy, "max_norm": 4.0}
    with pytest.raises(UpdateError, match=r"2\.safetensors: training changed it by a norm of 8"):
        aggregate(run, options=options)
    result = aggregate(run, options=options, min_clients=2)
    assert [entry.client for entry in result.clients] == ["0", "1", "3"]
    assert result.rejected[0].reason.endswith("above --max-norm 4")
    again = partial(aggregate, run, round_number=1, min_clients=2)
    assert again(options=options).already_done
    with pytest.raises(ConflictError, match="was made with --max-norm 4, not 5"):
        again(options={**options, "max_norm": 5.0})
    with pytest.raises(ConflictError, match="was made with --max-norm 4, not none"):
        again(options={"strategy": strategy})


def test_limits_are_of_the_plan_and_outlive_another_strategy() -> None:
    plan = AggregatePlan("fedadam", max_norm=3.0, max_examples=50)
    assert plan.with_options({"strategy": "krum"}).limits == {"max_norm": 3.0, "max_examples": 50}
    for wrong in ({"max_norm": 0.0}, {"max_examples": 0}):
        with pytest.raises(UsageError, match="--max-"):
            AggregatePlan(**wrong)


def test_a_client_that_says_it_has_too_many_examples(run: Run) -> None:
    deliver(run, "3", wide(4), num_examples=51)
    options = {"max_examples": 50}
    (rejected,) = aggregate(run, options=options, min_clients=2).rejected
    assert rejected.reason == "has num_examples 51, expected 50 at most"


def test_partial_means_take_no_bad_update(run: Run, tmp_path: Path) -> None:
    with_nan(run, "1")
    with pytest.raises(FedcliError, match="NaN or infinite"):
        partial_mean(run, ["0", "1"], tmp_path / "edge.safetensors")
    assert not (tmp_path / "edge.safetensors").exists()


def test_what_the_command_says(run: Run) -> None:
    truncated(run, "1")
    stopped = fedcli("aggregate", "--min-clients", 3, "--strict", cwd=run.root.parent)
    assert stopped.status == 4
    assert "1.safetensors: truncated or too long" in stopped.err
    done = fedcli("aggregate", "--min-clients", 3, "--max-norm", 1e9, cwd=run.root.parent)
    assert done.status == 0, done.err
    assert "left out: client 1: truncated or too long" in done.err
    assert "left out (truncated or too long" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    manifest = json.loads(run.round(1).manifest.read_text())
    assert manifest["limits"] == {"max_norm": 1e9}
