"""``aggregate``: who takes part, what is refused, and what is left after a fault."""

import errno
import json
import os
import resource
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import SEVEN, copied, deliver_all, planned, snapshot
from support.runs import ROLES, accepted, deliver, python, run_info, tensors
from support.tampering import poisoned

from fedcli.cli import execute
from fedcli.errors import (
    ConflictError,
    FedcliError,
    NotReadyError,
    StorageError,
    UpdateError,
    UsageError,
)
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.manifest import Absence
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate

# --- a session ---------------------------------------------------------------------------------


# --- who takes part ----------------------------------------------------------------------------


def test_missing_clients_are_named_and_nothing_is_written(tiny_run: Run) -> None:
    deliver(tiny_run, "1", tensors(1))
    before = snapshot(tiny_run)
    with pytest.raises(NotReadyError, match=r"1 of 3 .*missing: 0, 2"):
        aggregate(tiny_run)
    with pytest.raises(NotReadyError, match=r"1 of 2 .*missing: 0, 2"):
        aggregate(tiny_run, min_clients=2)
    assert snapshot(tiny_run) == before


def test_at_most_ten_missing_clients_are_named(tmp_path: Path, tiny_run: Run) -> None:
    run = Run.create(tmp_path, run_info(tuple(map(str, range(30)))))
    run.round(0).path.mkdir(parents=True)
    run.round(0).global_model.write_bytes(tiny_run.round(0).global_model.read_bytes())
    with pytest.raises(NotReadyError, match=r"0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …$") as raised:
        aggregate(run)
    assert "train-client --id 0 --data PATH" in str(raised.value.hint)
    for client in run.info.clients:
        run.client_shard(client).parent.mkdir(exist_ok=True)
        run.client_shard(client).touch()
    with pytest.raises(NotReadyError) as raised:
        aggregate(run)
    assert "train-client --id all" in str(raised.value.hint)


def test_a_quorum_goes_on_without_the_rest(tiny_run: Run) -> None:
    for client in "02":
        deliver(tiny_run, client, tensors(int(client) + 1))
    result = aggregate(tiny_run, min_clients=2)
    assert (accepted(result), result.rejected) == (["0", "2"], ())
    assert result.missing == (Absence("1", "has not delivered"),)
    assert aggregate(tiny_run, round_number=1, min_clients=2).already_done
    deliver(tiny_run, "1", tensors(2))
    with pytest.raises(ConflictError, match="clients 0, 2, not 0, 1, 2"):
        aggregate(tiny_run, round_number=1)


def test_excluded_clients_and_strangers_are_listed(delivered: Run) -> None:
    deliver(delivered, "9", tensors(9))
    result = aggregate(delivered, exclude=["0,1"])
    assert accepted(result) == ["2"]
    assert [(r.client, r.reason) for r in result.rejected] == [
        ("0", "excluded"),
        ("1", "excluded"),
        ("9", "not a client of this run"),
    ]


def test_a_run_without_a_list_takes_who_has_delivered(tmp_path: Path, tiny_run: Run) -> None:
    run = Run.create(tmp_path / "open", run_info(()))
    save_as_start(run, tiny_run)
    with pytest.raises(NotReadyError, match="0 of 1"):
        aggregate(run)
    for client in ("north", "mercy-hospital"):
        deliver(run, client, tensors(len(client)))
    with pytest.raises(NotReadyError, match="2 of 3"):
        aggregate(run, min_clients=3)
    assert accepted(aggregate(run)) == ["mercy-hospital", "north"]


def save_as_start(run: Run, other: Run) -> None:
    with Checkpoint(other.round(0).global_model) as start:
        metadata = Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES, seed=0)
        save(run.round(0).global_model, start.tensors(), metadata)


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": ["7"]},
        {"exclude": ["0-2"]},
        {"exclude": ["../0"]},
        {"min_clients": 0},
        {"min_clients": 4},
        {"min_clients": 3, "exclude": ["0"]},
        {"options": {"weighting": "best"}},
        {"round_number": 0},
        {"round_number": -1},
    ],
)
def test_options_that_cannot_be_met(delivered: Run, options: dict[str, Any]) -> None:
    before = snapshot(delivered)
    with pytest.raises(UsageError, match=r"^--|^client id"):
        aggregate(delivered, **options)
    assert snapshot(delivered) == before


def test_a_round_that_has_no_base(delivered: Run) -> None:
    with pytest.raises(NotReadyError, match="round 3 cannot start"):
        aggregate(delivered, round_number=3)


# --- doing it again ----------------------------------------------------------------------------


def test_other_inputs_are_a_conflict_and_force_replaces(delivered: Run) -> None:
    first = aggregate(delivered)
    before = snapshot(delivered)
    deliver(delivered, "1", tensors(50))
    with pytest.raises(ConflictError, match="another update of client 1"):
        aggregate(delivered, round_number=1)
    with pytest.raises(ConflictError, match="clients 0, 1, 2, not 0, 2"):
        aggregate(delivered, round_number=1, exclude=["1"])
    deliver(delivered, "1", tensors(2))
    with pytest.raises(ConflictError, match="--weighting examples, not uniform"):
        aggregate(delivered, round_number=1, options={"weighting": "uniform"})
    assert snapshot(delivered) == before
    second = aggregate(delivered, round_number=1, options={"weighting": "uniform"}, force=True)
    assert not second.already_done
    assert second.sha256 != first.sha256
    assert aggregate(delivered, round_number=1, options={"weighting": "uniform"}).already_done


def test_force_with_the_same_inputs_changes_nothing(delivered: Run) -> None:
    aggregate(delivered)
    before = snapshot(delivered)
    assert aggregate(delivered, round_number=1, force=True).already_done
    assert snapshot(delivered) == before


def test_a_round_that_others_were_trained_from_is_not_replaced(delivered: Run) -> None:
    aggregate(delivered)
    deliver(delivered, "0", tensors(7), round_number=2)
    before = snapshot(delivered)
    with pytest.raises(ConflictError, match="round 2 was trained from it"):
        aggregate(delivered, round_number=1, options={"weighting": "uniform"}, force=True)
    assert snapshot(delivered) == before


@pytest.mark.parametrize("text", [None, b"", b"[]", b"{}", b'{"format": 1}', b"[" * 100_000])
def test_a_manifest_that_says_nothing_is_a_conflict(delivered: Run, text: bytes | None) -> None:
    result = aggregate(delivered)
    manifest = delivered.round(1).manifest
    manifest.unlink() if text is None else manifest.write_bytes(text)
    with pytest.raises(ConflictError, match=r"aggregate\.json"):
        aggregate(delivered, round_number=1)
    assert aggregate(delivered, round_number=1, force=True).sha256 == result.sha256


def test_a_global_model_that_was_damaged_is_not_called_done(delivered: Run) -> None:
    result = aggregate(delivered)
    data = bytearray(result.path.read_bytes())
    data[-1] ^= 1
    result.path.write_bytes(data)
    with pytest.raises(ConflictError, match="is not the model"):
        aggregate(delivered, round_number=1)
    assert aggregate(delivered, round_number=1, force=True).sha256 == result.sha256


def test_an_option_that_follows_from_the_number_of_updates_is_compared(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", SEVEN)
    deliver_all(run, SEVEN)
    fresh = aggregate(copied(run, tmp_path / "fresh"), options={"strategy": "multi-krum"})
    first = aggregate(run, options={"strategy": "multi-krum", "byzantine": 0})
    assert first.sha256 != fresh.sha256
    again = {"round_number": 1, "options": {"strategy": "multi-krum"}}
    with pytest.raises(ConflictError, match="with --byzantine 0, not 2"):
        aggregate(run, **again)
    assert aggregate(run, **again, force=True).sha256 == fresh.sha256
    assert aggregate(run, **again).already_done
    same = {"strategy": "multi-krum", "byzantine": 2, "keep": 5}
    assert aggregate(run, round_number=1, options=same).already_done


def test_force_runs_a_rule_of_ones_own_again(
    delivered: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("own_rules")
    monkeypatch.setitem(sys.modules, "own_rules", module)
    options = {"reduce": "own_rules:combine"}
    monkeypatch.setattr(module, "combine", lambda stack, _: stack.min(axis=0), raising=False)
    lowest = aggregate(delivered, options=options).sha256
    monkeypatch.setattr(module, "combine", lambda stack, _: stack.max(axis=0))
    assert aggregate(delivered, round_number=1, options=options).already_done
    highest = aggregate(delivered, round_number=1, options=options, force=True).sha256
    assert highest != lowest
    deliver(delivered, "0", tensors(7), round_number=2)
    before = snapshot(delivered)
    again = aggregate(delivered, round_number=1, options=options, force=True)
    assert (again.sha256, again.already_done) == (highest, False)
    after = snapshot(delivered)
    monkeypatch.setattr(module, "combine", lambda stack, _: stack.min(axis=0))
    with pytest.raises(ConflictError, match="round 2 was trained from it"):
        aggregate(delivered, round_number=1, options=options, force=True)
    assert snapshot(delivered) == after
    assert before.keys() == after.keys()


def test_force_measures_what_was_not_measured(delivered: Run) -> None:
    first = aggregate(delivered, diagnostics=False)
    deliver(delivered, "0", tensors(7), round_number=2)
    assert aggregate(delivered, round_number=1).already_done
    assert aggregate(delivered, round_number=1, diagnostics=False, force=True).already_done
    second = aggregate(delivered, round_number=1, force=True)
    assert [entry.norm for entry in first.clients] == [None] * 3
    assert all(entry.norm for entry in second.clients)
    assert second.sha256 == first.sha256
    assert aggregate(delivered, round_number=1, force=True).already_done


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{}")])
def test_a_lost_manifest_comes_back_while_later_rounds_stay(
    delivered: Run, harm: Callable[[Path], object]
) -> None:
    """The same model may be written again; another may not."""
    result = aggregate(delivered)
    deliver(delivered, "0", tensors(7), round_number=2)
    harm(delivered.round(1).manifest)
    harmed = snapshot(delivered)
    with pytest.raises(ConflictError, match="round 2 was trained from it"):
        aggregate(delivered, round_number=1, options={"weighting": "uniform"}, force=True)
    assert snapshot(delivered) == harmed
    assert aggregate(delivered, round_number=1, force=True).sha256 == result.sha256
    assert aggregate(delivered, round_number=1).already_done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"strategy": "clipped-mean"}}, "--clip-norm"),
        ({"min_clients": 4}, "--min-clients: at most 3"),
        ({"min_clients": 3, "exclude": ["0"]}, "--min-clients: at most 2"),
    ],
)
def test_nobody_waits_for_what_cannot_be(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(UsageError, match=message):
        aggregate(tiny_run, wait=60, **arguments)


# --- updates that do not fit -------------------------------------------------------------------


def changed(name: str, values: Any) -> dict[str, Any]:
    return {**tensors(2), name: values}


def without(name: str) -> dict[str, Any]:
    return {key: values for key, values in tensors(2).items() if key != name}


BAD_TENSORS = {
    "nan": (poisoned("fc.bias", np.nan), "'fc.bias': 1 of 4 values are NaN or infinite"),
    "inf": (poisoned("bn.running_mean", np.inf), "'bn.running_mean': 1 of 8"),
    "minus inf": (poisoned("conv.weight", -np.inf), "'conv.weight': 1 of 216"),
    "missing": (without("fc.bias"), "'fc.bias' is missing"),
    "extra": (changed("fc.extra", np.zeros(1, np.float32)), "'fc.extra' that the base"),
    "shape": (
        changed("fc.weight", np.zeros((8, 4), np.float32)),
        r"'fc.weight': expected shape \[4, 8\], found \[8, 4\]",
    ),
    "dtype": (
        changed("fc.bias", np.zeros(4, np.float16)),
        "'fc.bias': expected dtype F32, found F16",
    ),
    "counter as float": (
        changed("bn.num_batches_tracked", np.float32(3).reshape(())),
        "'bn.num_batches_tracked': expected dtype I64, found F32",
    ),
}
BAD_METADATA: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"kind": Kind.GLOBAL}, "expected a checkpoint of kind update, found global"),
    "run": ({"run": "0" * 64}, "belongs to run 0000"),
    "round": ({"round": 2}, "belongs to round 2, expected 1"),
    "client": ({"client": "2"}, "belongs to client 2, expected 1"),
    "base": ({"base": "0" * 64}, "trained from another base model"),
    "no base": ({"base": None}, "trained from another base model"),
    "roles": ({"roles": {"bn.running_mean": Role.BUFFER}}, "tensor roles"),
    "no examples": ({"num_examples": 0}, "num_examples 0"),
    "negative": ({"num_examples": -5}, "num_examples: expected 0 or more, found -5"),
    "unknown examples": ({"num_examples": None}, "num_examples None"),
}


COPY = "copy it again from where it was trained"


def refused(run: Run, message: str | None) -> None:
    """It is an ``UpdateError`` that names the file and both ways out; nothing is written."""
    before = snapshot(run)
    with pytest.raises(UpdateError, match=message) as raised:
        aggregate(run)
    assert raised.value.status == 4
    assert raised.value.message.startswith(str(run.round(1).update("1")))
    hint = str(raised.value.hint)
    train = f"fedcli train-client --id 1 --data PATH --run {run.root}"
    assert any(way in hint for way in (f"{train} --force", f"then train this one: {train}", COPY))
    assert f"fedcli aggregate --round 1 --exclude 1 --run {run.root}" in hint
    assert snapshot(run) == before


@pytest.mark.parametrize(("values", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_tensors_that_do_not_fit(delivered: Run, values: dict[str, Any], message: str) -> None:
    deliver(delivered, "1", values)
    refused(delivered, message)
    assert accepted(aggregate(delivered, exclude=["1"])) == ["0", "2"]


@pytest.mark.parametrize(("changes", "message"), BAD_METADATA.values(), ids=BAD_METADATA)
def test_metadata_that_does_not_fit(delivered: Run, changes: dict[str, Any], message: str) -> None:
    path = delivered.round(1).update("1")
    with Checkpoint(path) as checkpoint:
        metadata = checkpoint.metadata
    save(path, tensors(2), replace(metadata, **changes))
    refused(delivered, message)


def test_every_truncation(delivered: Run) -> None:
    path = delivered.round(1).update("1")
    whole = path.read_bytes()
    for size in (*range(0, len(whole), 64), len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(delivered, "truncated")
    path.write_bytes(whole + b"\0")
    refused(delivered, "too long")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.write_text("hello")])
def test_what_is_no_update_at_all(delivered: Run, make: Callable[[Path], object]) -> None:
    path = delivered.round(1).update("1")
    path.unlink()
    make(path)
    refused(delivered, "expected a file|not a safetensors file")


def test_flipped_bits_are_found_where_the_client_noted_its_digest(delivered: Run) -> None:
    path = delivered.round(1).update("1")
    note = delivered.round(1).telemetry("1")
    whole = path.read_bytes()
    note.write_text(json.dumps({"format": 1, "sha256": deliver(delivered, "1", tensors(2))}))
    for place in range(len(whole) - 1, 0, -41):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        refused(delivered, None)
    path.write_bytes(whole)
    assert accepted(aggregate(delivered)) == ["0", "1", "2"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"sha256": 3}', b"\xff", b"[" * 100_000])
def test_broken_telemetry_says_nothing(delivered: Run, text: bytes) -> None:
    delivered.round(1).telemetry("1").write_bytes(text)
    assert accepted(aggregate(delivered)) == ["0", "1", "2"]


# --- faults ------------------------------------------------------------------------------------

CALLS = ["pwrite", "fsync", "replace", "preadv", "open"]


@pytest.mark.parametrize("force", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("call", CALLS)
def test_a_fault_at_any_call_leaves_the_round_as_it_was_or_complete(
    delivered: Run, monkeypatch: pytest.MonkeyPatch, call: str, force: bool
) -> None:
    options: dict[str, Any] = {}
    if force:
        aggregate(delivered, options={"weighting": "uniform"})
        options = {"round_number": 1, "force": True}
    before = snapshot(delivered)
    failures = 0
    for fatal in range(1, 1000):
        fault = Fault(getattr(os, call), fatal)
        error = None
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fault)
            try:
                aggregate(delivered, **options)
            except FedcliError as raised:
                error = raised
        if error is None:
            assert aggregate(delivered, round_number=1).already_done
            assert len(list(delivered.round(1).path.iterdir())) == 3
            if fault.calls < fatal:
                break
            restore(delivered, before)
        failures += error is not None
        assert error is None or (error.status == 1 and "No space left" in error.message)
        assert snapshot(delivered) == before
    assert failures


class Fault:
    """A system call that fails once, the ``fatal``-th time."""

    def __init__(self, real: Callable[..., Any], fatal: int) -> None:
        self.real = real
        self.fatal = fatal
        self.calls = 0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        if self.calls == self.fatal:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.real(*arguments, **keywords)


def restore(run: Run, files: dict[str, bytes]) -> None:
    for path in snapshot(run):
        (run.root / path).unlink()
    for path, data in files.items():
        (run.root / path).write_bytes(data)


def test_the_global_model_is_the_last_to_appear(
    delivered: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    appeared = []

    def noting(real: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def noted(source: Any, target: Any) -> None:
            assert not delivered.round(1).global_model.exists()
            real(source, target)
            appeared.append(Path(target).name)

        return noted

    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    aggregate(delivered)
    assert appeared == ["aggregate.json", "global.safetensors"]


def test_a_file_size_limit_is_a_storage_error(delivered: Run) -> None:
    before = snapshot(delivered)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500));"
        "from fedcli.cli import execute; sys.exit(execute(['aggregate']))"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = python(program, cwd=delivered.root.parent)
    assert done.status == 1
    assert done.err.startswith("error: fedrun/rounds/0001/global.safetensors: cannot write")
    assert snapshot(delivered) == before


def test_no_permission(
    delivered: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.open

    def denied(path: Any, *arguments: Any, **keywords: Any) -> int:
        if Path(path) == delivered.round(1).update("1"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StorageError, match=r"1\.safetensors: cannot read: Permission denied"):
        aggregate(delivered)
    assert execute(["aggregate", "--run", str(delivered.root)]) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_more_updates_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # to make them faster
    run = Run.create(tmp_path / "fedrun", run_info(()))
    start = {"w": np.zeros(70_000, np.float32), "v": np.zeros(3)}
    save(run.round(0).global_model, start, Metadata(Kind.GLOBAL, run.id, round=0))
    for client in range(300):
        values = {"w": np.full(70_000, client, np.float32), "v": np.full(3, float(client))}
        deliver(run, str(client), values, roles={}, num_examples=1)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (280, 280));"
        "from fedcli.cli import execute; sys.exit(execute(['aggregate', '--json']))"
    )
    done = python(program, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert len(done.json["clients"]) == 300
