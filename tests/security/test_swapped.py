"""Files that are exchanged between being checked and being used, and steps that overtake others."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import copied, snapshot
from support.runs import deliver, tensors
from support.signing import keys, signed_run
from support.small_runs import SMALL, contents, play, small_run
from support.tampering import flip, resave, rewrite

from fedcli.aggregation import commit
from fedcli.client import train_one as training
from fedcli.errors import BadInputError, ConflictError
from fedcli.exporting.history import chain
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind
from fedcli.formats.records import encode
from fedcli.plan import Plan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.evaluate import evaluate
from fedcli.steps.export import export
from fedcli.steps.gc import gc
from fedcli.steps.train_client import TrainClientResult, train_client
from fedcli.steps.verify import verify
from fedcli.storage.atomic import write_json
from fedcli.storage.commit import locked
from fedcli.storage.untrusted import InputFile
from fedcli.verification.replay_sandbox import UserCode

pytestmark = pytest.mark.usefixtures("unsynced")


def train(run: Run, client: str, **options: Any) -> TrainClientResult:
    force, number = options.pop("force", False), options.pop("number", None)
    return train_client(
        run,
        [client],
        round_number=number,
        options=options,
        execution=Execution(threads=1),
        force=force,
    )


def exchange(path: Path) -> None:
    """Put another file in the place of one: the same tensors, but larger."""
    with Checkpoint(path) as found:
        values, metadata = found.tensors(), found.metadata
    other = {name: v + 1 if v.dtype.kind == "f" else v for name, v in values.items()}
    resave(path, other)
    assert contents(path)[1] == metadata


def after_hashing(path: Path, do: Callable[[Path], None], patch: pytest.MonkeyPatch) -> None:
    """Do something, once, just after the SHA-256 of a file was computed."""
    really, done = InputFile.digest, []

    def digest(file: InputFile) -> str:
        found = really(file)
        if file.path == path and not done:
            done.append(path)
            do(path)
        return found

    patch.setattr(InputFile, "digest", digest)


# --- checked, and then used ----------------------------------------------------------------------


def test_a_server_state_that_is_exchanged_is_the_old_one(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        for client in "012":
            deliver(tiny_run, client, tensors(10 * number + int(client)), round_number=number)
        if number == 1:
            aggregate(tiny_run, options={"strategy": "fedavgm"})
    same = copied(tiny_run, tmp_path / "same")
    expected = aggregate(same, options={"strategy": "fedavgm"}).sha256
    after_hashing(tiny_run.round(1).server_state, exchange, monkeypatch)
    assert aggregate(tiny_run, options={"strategy": "fedavgm"}).sha256 == expected


@pytest.mark.parametrize("options", [{"strategy": "fedadam"}, {"strategy": "krum", "byzantine": 0}])
def test_a_base_that_is_exchanged_is_not_used(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(int(client)))
    after_hashing(tiny_run.round(0).global_model, exchange, monkeypatch)
    with pytest.raises(BadInputError, match=r"0000/global\.safetensors: was replaced"):
        aggregate(tiny_run, options=options)
    assert not tiny_run.round(1).global_model.exists()


def test_what_is_trained_from_is_what_was_hashed(tmp_path: Path) -> None:
    """Values and hash are of one reading, so that nothing can come between two."""
    run = small_run(tmp_path / "run")
    with Checkpoint(run.round(0).global_model, Kind.GLOBAL) as model:
        values, sha256 = model.tensors_and_digest()
        assert sha256 == model.digest()
        assert {n: v.tobytes() for n, v in values.items()} == {
            n: v.tobytes() for n, v in model.tensors().items()
        }


def test_a_base_that_is_exchanged_is_not_trained_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read when the network is there, after it was hashed and checked."""
    run = small_run(tmp_path / "run")
    after_hashing(run.round(0).global_model, exchange, monkeypatch)
    with pytest.raises(BadInputError, match=r"0000/global\.safetensors: was changed or replaced"):
        train(run, "0")
    assert not run.round(1).update("0").exists()


def test_an_update_that_is_replaced_while_it_is_averaged(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    path, reduced = tiny_run.round(1).update("1"), commit.reduce_updates

    def replaced(*given: Any) -> None:
        reduced(*given)
        exchange(path)

    monkeypatch.setattr(commit, "reduce_updates", replaced)
    with pytest.raises(BadInputError, match=r"updates/1\.safetensors: was replaced"):
        aggregate(tiny_run)
    assert not tiny_run.round(1).global_model.exists()
    monkeypatch.undo()
    assert aggregate(tiny_run).clients
    assert verify(tiny_run.root).sound


def test_a_model_that_is_exchanged_is_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {}, {})
    after_hashing(run.round(1).global_model, exchange, monkeypatch)
    with pytest.raises(BadInputError, match=r"0001/global\.safetensors: was damaged or changed"):
        evaluate(run, data=str(data_of(run, tmp_path)), threads=1)


def data_of(run: Run, folder: Path) -> Path:
    with Checkpoint(run.client_shard("0"), Kind.SHARD) as shard:
        np.savez(folder / "data.npz", **shard.tensors())
    return folder / "data.npz"


# --- the model of another place ------------------------------------------------------------------


@pytest.mark.parametrize("other", ["run", "round"])
def test_a_global_model_of_another_place_is_refused_everywhere(tmp_path: Path, other: str) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {}, {})
    train(run, "0")
    if other == "run":
        resave(run.round(1).global_model, run="f" * 64)
    else:
        run.round(1).global_model.write_bytes(run.round(0).global_model.read_bytes())
    before = snapshot(run)
    for step in (
        lambda: train(run, "1"),
        lambda: aggregate(run, min_clients=1),
        lambda: evaluate(run, data=str(data_of(run, tmp_path)), threads=1),
        lambda: export(run, output=tmp_path / "model.safetensors"),
    ):
        with pytest.raises(BadInputError, match=f"0001/global.*: belongs to {other}"):
            step()
    assert snapshot(run) == before


def test_a_changed_model_is_not_exported(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {}, {})
    flip(run.round(1).global_model)
    with pytest.raises(BadInputError, match="was damaged or changed"):
        export(run, output=tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


def test_a_manifest_that_cannot_be_understood_does_not_switch_checks_off(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {}, {})
    run.round(1).manifest.write_text("{}")
    with pytest.raises(BadInputError, match=r"0001/aggregate\.json") as raised:
        train(run, "0")
    assert "aggregate --round 1 --force" in str(raised.value.hint)


def test_momentum_does_not_begin_anew_without_a_word(tiny_run: Run) -> None:
    for number in (1, 2):
        for client in "012":
            deliver(tiny_run, client, tensors(int(client)), round_number=number)
        if number == 1:
            aggregate(tiny_run, options={"strategy": "fedavgm"})
    for path in (tiny_run.round(1).manifest, tiny_run.round(1).server_state):
        path.unlink()
    with pytest.raises(Exception, match="whether the server keeps"):
        aggregate(tiny_run, options={"strategy": "fedavgm"})
    assert aggregate(tiny_run).clients


# --- steps that overtake others ------------------------------------------------------------------


def test_a_training_with_force_does_not_touch_a_round_that_was_closed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path / "run", Plan(SMALL))
    train(run, "all", algorithm="ditto")
    fit = training._fit

    def slow(*arguments: Any) -> Any:
        found = fit(*arguments)
        monkeypatch.setattr(training, "_fit", fit)
        aggregate(run)
        closed.append(snapshot(run))
        return found

    closed: list[Any] = []
    monkeypatch.setattr(training, "_fit", slow)
    with pytest.raises(ConflictError, match="round 1 is complete"):
        train(run, "0", algorithm="ditto", lr=0.5, force=True)
    assert without_live(snapshot(run)) == without_live(closed[0])


def without_live(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if "/training/" not in name}


def test_an_update_that_was_removed_is_not_replaced_by_another(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 3, {}, {})
    gc(run, 1)
    before = snapshot(run)
    for options in ({}, {"lr": 0.5}):
        with pytest.raises(ConflictError, match="is gone, and a global model was made from it"):
            train(run, "1", number=2, **options)
    assert snapshot(run) == before
    assert verify(run.root).sound


def test_updates_are_published_one_at_a_time(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    run.round(1).updates.mkdir(parents=True)
    thread = threading.Thread(target=train, args=(run, "0"))
    with locked(run.round(1).path):
        thread.start()
        thread.join(2)
        assert not list(run.round(1).updates.glob("0.*"))
    thread.join()
    assert run.round(1).update("0").exists()


# --- hostile participants ------------------------------------------------------------------------


def test_a_note_beside_an_update_does_not_outweigh_its_signature(tmp_path: Path) -> None:
    owned = keys(tmp_path)
    signed = signed_run(tmp_path / "fedrun", owned)
    for client in "012":
        signed.deliver(client, tensors(int(client)))
    write_json(signed.run.round(1).telemetry("1"), {"format": 1, "sha256": "0" * 64})
    result = aggregate(signed.run, key=tmp_path / "coordinator.key")
    assert [entry.client for entry in result.clients] == ["0", "1", "2"]


def test_a_manifest_cannot_excuse_an_update_that_it_accepts(tiny_run: Run) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(int(client)))
    aggregate(tiny_run)
    excuse = {"client": "1", "reason": "excluded", "round": 1, "sha256": None}
    rewrite(tiny_run.round(1).manifest, lambda values: values["rejected"].append(excuse))
    flip(tiny_run.round(1).update("1"))
    result = verify(tiny_run.root)
    assert not result.sound
    changed = {f.file for f in result.findings if f.problem == "changed"}
    assert changed == {"rounds/0001/aggregate.json", "rounds/0001/updates/1.safetensors"}


def test_what_an_update_says_of_its_training_is_limited(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hostile:  # fedcli itself writes no such record
        hostile.setattr("fedcli.formats.metadata._MOST_TRAINING", 10**6)
        deliver(tiny_run, "0", tensors(0), training={"freeze": ["x" * 100] * 1000})
    for client in "12":
        deliver(tiny_run, client, tensors(1))
    (rejected,) = aggregate(tiny_run, min_clients=2).rejected
    assert rejected.client == "0"
    assert "metadata.training takes more than 100000 bytes" in rejected.reason


def test_reasons_in_a_manifest_are_short(tiny_run: Run) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    resave(tiny_run.round(1).update("0"), run="x" * 5000)
    aggregate(tiny_run, min_clients=2)
    manifest = Manifest.try_read(tiny_run.round(1).manifest)
    assert manifest is not None
    assert len(manifest.rejected[0].reason) <= 300


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


@pytest.mark.parametrize("change", [grow, shrink])
def test_an_update_that_changes_while_it_is_read_is_set_aside(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    path, real, done = tiny_run.round(1).update("1"), os.preadv, []
    inode = path.stat().st_ino

    def preadv(descriptor: int, *arguments: Any) -> int:
        found = real(descriptor, *arguments)
        if os.fstat(descriptor).st_ino == inode and len(done) < 4:
            done.append(path)
            if len(done) == 4:  # the header was read, and the first block
                change(path)
        return found

    monkeypatch.setattr(os, "preadv", preadv)
    result = aggregate(tiny_run, min_clients=2)
    assert [entry.client for entry in result.clients] == ["0", "2"]
    assert [entry.client for entry in result.rejected] == ["1"]


def test_an_update_that_may_not_be_read_is_set_aside(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    path, real = tiny_run.round(1).update("1"), os.open

    def denied(name: Any, *arguments: Any, **options: Any) -> int:
        if Path(os.fsdecode(name)) == path:
            raise PermissionError(13, "Permission denied", str(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", denied)
    (rejected,) = aggregate(tiny_run, min_clients=2).rejected
    assert rejected.reason == "cannot read: Permission denied"


@pytest.mark.parametrize("folder", ["", "updates", "client_state", "training"])
def test_folders_of_a_round_that_are_links_are_refused(tmp_path: Path, folder: str) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {}, {})
    victim = tmp_path / "victim"
    victim.mkdir()
    link = run.round(2).path / folder
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim)
    for step in (lambda: train(run, "0"), lambda: aggregate(run, min_clients=1)):
        with pytest.raises(BadInputError, match="is a symbolic link, which is not followed"):
            step()
    assert list(victim.iterdir()) == []


@pytest.mark.timeout(60)
def test_a_round_with_a_number_of_ten_digits_costs_nothing(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 2, {"algorithm": "ditto"}, {})
    far = run.round(999_999_999)
    far.path.mkdir()
    far.global_model.write_bytes(run.round(2).global_model.read_bytes())
    assert gc(run, 1).files == 9  # updates of two rounds, and states of one
    assert len(chain(run, far.number, "f" * 64)) == 2
    with pytest.raises(BadInputError, match="belongs to round"):
        train(run, "0", algorithm="ditto")


@pytest.mark.parametrize(
    "said",
    [
        {"micro_batch": -3},
        {"threads": -1},
        {"threads": 2**40},
        {"lr": 1e308},
        {"batch_size": 2**62},
    ],
    ids=str,
)
def test_a_replay_survives_what_an_update_says_of_its_training(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    run = small_run(tmp_path / "run")
    train(run, "0")
    path = run.round(1).update("0")
    facts = encode(contents(path)[1].training)
    resave(path, training={**facts, **said})
    run.round(1).telemetry("0").unlink()
    aggregate(run, min_clients=1)
    result = verify(run.root, replay=UserCode())
    messages = [f.message for f in result.findings if f.file.endswith("updates/0.safetensors")]
    assert messages, result


@pytest.mark.parametrize("said", [{"micro_batch": "x"}, {"compile": "yes"}], ids=str)
def test_a_replay_survives_an_update_that_says_what_no_training_is(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    run = small_run(tmp_path / "run")
    train(run, "0")
    aggregate(run, min_clients=1)
    path = run.round(1).update("0")
    resave(path, training={**encode(contents(path)[1].training), **said})
    messages = {
        f.message for f in verify(run.root, replay=UserCode()).findings if f.file in str(path)
    }
    key, *_ = said
    assert any(f"metadata.training.{key}: expected" in message for message in messages)
    assert any("cannot be replayed" in message for message in messages)


def with_momentum(run: Run) -> None:
    """Two rounds of FedAvgM."""
    for number in (1, 2):
        for client in "012":
            deliver(run, client, tensors(10 * number + int(client)), round_number=number)
        aggregate(run, options={"strategy": "fedavgm"})


def test_a_manifest_that_nobody_can_have_written_does_not_switch_replay_off(tiny_run: Run) -> None:
    with_momentum(tiny_run)
    rewrite(tiny_run.round(2).manifest, lambda values: values["options"].update(server_lr="x"))
    result = verify(tiny_run.root, replay=UserCode())
    assert not result.sound
    (finding,) = (f for f in result.findings if f.problem == "differs")
    assert finding.file == "rounds/0002/aggregate.json"
    assert "cannot have been made like this" in finding.message


def test_the_servers_last_state_is_lost_when_it_is_gone(tiny_run: Run) -> None:
    with_momentum(tiny_run)
    tiny_run.round(1).server_state.unlink()
    assert verify(tiny_run.root).sound
    tiny_run.round(2).server_state.unlink()
    result = verify(tiny_run.root)
    assert not result.sound
    (finding,) = (f for f in result.findings if f.problem == "lost")
    assert finding.file == "rounds/0002/server_state.safetensors"
