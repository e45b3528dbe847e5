"""A server state that was lost or changed, and faults while it is written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import EXAMPLES, new_run, server, snapshot, train
from support.runs import tensors

from fedcli.errors import BadInputError, ConflictError, FedcliError, NotReadyError, StorageError
from fedcli.formats.manifest import Manifest
from fedcli.run import Run

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    start = {**tensors(0), "double": np.random.default_rng(9).standard_normal((3, 7))}
    return new_run(tmp_path / "run", start, tuple(EXAMPLES))


# --- lost and changed --------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (Path.unlink, NotReadyError, r"server_state\.safetensors: no such file"),
        (flip, BadInputError, r"is not the state that .*aggregate\.json names"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), BadInputError, "is not the state"),
    ],
)
def test_a_lost_state_is_said_and_can_be_made_again(
    run: Run, harm: Any, error: type[FedcliError], message: str
) -> None:
    train(run, 1)
    server(run, "fedadam")
    train(run, 2)
    good = snapshot(run)
    harm(run.round(1).server_state)
    harmed = snapshot(run)
    with pytest.raises(error, match=message) as raised:
        server(run, "fedadam")
    hint = str(raised.value.hint)
    assert f"fedcli aggregate --round 1 --strategy fedadam --force --run {run.root}" in hint
    with pytest.raises(ConflictError, match=r"server_state\.safetensors") as refused:
        server(run, "fedadam", 1)
    assert "--force" in str(refused.value.hint)
    assert snapshot(run) == harmed
    # Though round 2 was trained from it: the same updates make the same model.
    assert not server(run, "fedadam", 1, force=True).already_done
    kept = snapshot(run)
    for name in ("rounds/0001/global.safetensors", "rounds/0001/server_state.safetensors"):
        assert kept[name] == good[name]
    with pytest.raises(ConflictError, match="round 2 was trained from it"):
        server(run, "fedavg", 1, force=True)
    server(run, "fedadam")


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{}")])
def test_a_state_without_its_manifest_is_not_forgotten(run: Run, harm: Any) -> None:
    train(run, 1)
    server(run, "fedadam")
    train(run, 2)
    good = snapshot(run)
    harm(run.round(1).manifest)
    harmed = snapshot(run)
    with pytest.raises(BadInputError, match=r"0001/aggregate\.json: (does not|the file)") as raised:
        server(run, "fedadam")
    assert "fedcli aggregate --round 1 --force" in str(raised.value.hint)
    assert snapshot(run) == harmed
    server(run, "fedadam", 1, force=True)
    kept = snapshot(run)
    for name in ("rounds/0001/global.safetensors", "rounds/0001/server_state.safetensors"):
        assert kept[name] == good[name]
    server(run, "fedadam")


def test_the_state_of_another_aggregation_is_not_used(run: Run) -> None:
    """As when a model was copied, and what belongs to it was not."""
    train(run, 1)
    server(run, "fedadam", server_lr=0.5)
    model = run.round(1).global_model.read_bytes()
    server(run, "fedadam", 1, force=True)
    run.round(1).global_model.write_bytes(model)
    train(run, 2)
    before = snapshot(run)
    with pytest.raises(BadInputError, match=r"0001/global.*: was damaged or changed") as raised:
        server(run, "fedadam")
    assert "--round 1 --strategy fedadam --force" in str(raised.value.hint)
    assert snapshot(run) == before
    with pytest.raises(ConflictError, match="round 2 was trained from it"):
        server(run, "fedadam", 1, server_lr=0.25, force=True)
    assert snapshot(run) == before
    server(run, "fedadam", 1, server_lr=0.5, force=True)
    assert run.round(1).global_model.read_bytes() == model
    server(run, "fedadam")


def test_a_rule_that_keeps_nothing_needs_no_state(run: Run) -> None:
    train(run, 1)
    server(run, "fedadam")
    train(run, 2)
    run.round(1).server_state.unlink()
    server(run, "fedavg")
    assert not run.round(2).server_state.exists()


def test_force_to_a_rule_that_keeps_nothing_removes_the_state(run: Run) -> None:
    train(run, 1)
    server(run, "fedadam")
    assert run.round(1).server_state.exists()
    server(run, "fedavg", 1, force=True)
    assert not run.round(1).server_state.exists()
    manifest = Manifest.try_read(run.round(1).manifest)
    assert manifest is not None
    assert manifest.server_state is None


# --- faults ------------------------------------------------------------------------------------


def test_the_state_and_the_manifest_appear_before_the_global_model(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    appeared = []

    def noting(real: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def noted(source: Any, target: Any) -> None:
            real(source, target)
            appeared.append(Path(target).name)

        return noted

    train(run, 1)
    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    server(run, "fedadam")
    assert sorted(appeared) == ["aggregate.json", "global.safetensors", "server_state.safetensors"]
    assert appeared[-1] == "global.safetensors"


@pytest.mark.parametrize("before", [None, "fedavg", "fedadam"], ids=["new", "stateless", "state"])
@pytest.mark.parametrize("call", ["pwrite", "fsync", "replace", "preadv", "open"])
def test_a_fault_at_any_call_leaves_the_round_as_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch, call: str, before: str | None
) -> None:
    train(run, 1)
    if before:
        server(run, before)
    files = snapshot(run)
    real, failures = getattr(os, call), 0
    for fatal in range(1, 1000):
        calls = 0

        def fail(*arguments: Any, fatal: int = fatal, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise OSError(28, "No space left on device")
            return real(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            try:
                server(run, "fedadam", 1, server_lr=0.5, force=True)
            except StorageError:
                failures += 1
                assert snapshot(run) == files
                continue
        assert server(run, "fedadam", 1, server_lr=0.5).already_done
        if calls < fatal:
            break
        for path in snapshot(run):
            (run.root / path).unlink()
        for path, data in files.items():
            (run.root / path).write_bytes(data)
    assert failures
