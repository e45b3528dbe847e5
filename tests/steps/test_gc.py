"""``gc``: what is left, and that no later step can tell the difference."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.handmade import copied, deliver_all, planned, snapshot
from support.runs import deliver, fedcli, tensors
from support.signing import keys, signed_run
from support.small_runs import play, small_run

from fedcli.errors import NotReadyError, StorageError, UsageError
from fedcli.formats.checkpoint import digest
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.client_state import StateStore
from fedcli.steps.aggregate import aggregate
from fedcli.steps.gc import GcResult, gc
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import verify
from fedcli.storage.atomic import write_json

pytestmark = pytest.mark.usefixtures("unsynced")
THREE = ("0", "1", "2")
SCAFFOLD = ({"algorithm": "scaffold"}, {"strategy": "scaffold"})


def with_rounds(root: Path, count: int, **plan: Any) -> Run:
    """A run of three clients, with telemetry and with rounds that were aggregated by hand."""
    run = planned(root, THREE, **plan)
    for number in range(1, count + 1):
        one_round(run, number)
    return run


def one_round(run: Run, number: int) -> None:
    deliver_all(run, THREE, number)
    for client in THREE:
        sha256 = digest(run.round(number).update(client))
        values = {"format": 1, "client": client, "round": number, "sha256": sha256}
        write_json(run.round(number).telemetry(client), values)
    aggregate(run)


def results(run: Run) -> dict[str, Any]:
    """What aggregation and training made, without what is volatile."""
    found: dict[str, Any] = {}
    for name, data in snapshot(run).items():
        if name.endswith(".safetensors"):
            found[name] = data
        elif name.endswith("aggregate.json"):
            found[name] = {k: v for k, v in json.loads(data).items() if k != "seconds"}
    return found


def assert_part_of(less: Run, more: Run) -> None:
    """What is in one run is in the other one too, to the byte."""
    theirs = results(more)
    for name, value in results(less).items():
        assert value == theirs[name], name


def assert_sound(run: Run) -> None:
    found = verify(run.root)
    assert found.sound, [finding for finding in found.findings if finding.wrong]


def test_what_is_left_of_old_rounds(tmp_path: Path) -> None:
    run = with_rounds(tmp_path / "run", 5, strategy="fedadam")
    deliver(run, "0", tensors(7), round_number=6)
    before = set(snapshot(run))
    gone = {f"rounds/000{n}/updates/{c}.safetensors" for n in (1, 2, 3) for c in THREE}
    gone |= {f"rounds/000{n}/server_state.safetensors" for n in (1, 2)}
    size = sum((run.root / name).stat().st_size for name in gone)

    would = gc(run, 2, dry_run=True)
    assert set(snapshot(run)) == before
    did = gc(run, 2)
    assert before - set(snapshot(run)) == gone
    assert (did.files, did.bytes, did.rounds) == (len(gone), size, (1, 2, 3))
    assert (would.removed, would.kept, would.bytes) == (did.removed, did.kept, did.bytes)
    assert [kept.file for kept in did.kept] == ["rounds/0003/server_state.safetensors"]
    assert gc(run, 2).files == 0
    assert_sound(run)
    missing = {f.file for f in verify(run.root).findings if f.problem == "missing"}
    assert missing == gone


def test_fewer_rounds_than_are_to_be_kept(tmp_path: Path) -> None:
    run = with_rounds(tmp_path / "run", 2)
    before = snapshot(run)
    assert gc(run, 2).files == gc(run, 100).files == 0
    assert snapshot(run) == before
    with pytest.raises(UsageError, match="--keep-last: expected 1 or more, found 0"):
        gc(run, 0)


def test_kept_rounds_can_be_made_again(tmp_path: Path) -> None:
    run = with_rounds(tmp_path / "run", 3, strategy="fedadam")
    gc(run, 1)
    before = results(run)
    run.round(3).manifest.unlink()
    aggregate(run, round_number=3, force=True)
    assert results(run) == before


@pytest.mark.parametrize("weighting", ["examples", "staleness"])
def test_a_late_update_counts_as_it_does_without_gc(tmp_path: Path, weighting: str) -> None:
    plan = {"weighting": weighting, **({"buffer": 1} if weighting == "staleness" else {})}
    quorum = None if weighting == "staleness" else 1
    run = planned(tmp_path / "run", THREE, **plan)
    for number in (1, 2, 3):
        deliver(run, "0", tensors(number), round_number=number)
        aggregate(run, min_clients=quorum)
    deliver(run, "1", tensors(8), round_number=1)
    other = copied(run, tmp_path / "other")

    assert gc(run, 1).files == 2  # those of client 0 in rounds 1 and 2
    for one in (run, other):
        deliver(one, "0", tensors(9), round_number=4)
        aggregate(one, min_clients=quorum)
    assert_part_of(run, other)
    assert gc(run, 1).files == 2  # now that a manifest has told of the late one
    assert_sound(run)


@pytest.fixture
def with_rejected(tmp_path: Path) -> Run:
    """Two rounds, of which the first was made without client 2, which had delivered."""
    run = planned(tmp_path / "rejected", THREE)
    deliver_all(run, THREE)
    for client in THREE:
        write_json(run.round(1).telemetry(client), {"sha256": digest(run.round(1).update(client))})
    aggregate(run, exclude=["2"])
    deliver_all(run, THREE, 2)
    aggregate(run)
    return run


def test_an_update_that_nothing_was_made_of_goes_with_what_belongs_to_it(
    with_rejected: Run,
) -> None:
    gc(with_rejected, 1)
    left = {path.name for path in with_rejected.round(1).updates.iterdir()}
    assert left == {"0.json", "1.json"}
    assert_sound(with_rejected)


def test_who_delivered_can_be_checked_when_the_updates_are_gone(tmp_path: Path) -> None:
    owned = keys(tmp_path)
    signed = signed_run(tmp_path / "run", owned)
    for number in (1, 2):
        for client in THREE:
            signed.deliver(client, tensors(10 * number + int(client)), round_number=number)
        aggregate(signed.run, key=owned["coordinator"].path)
    gc(signed.run, 1)
    found = verify(signed.run.root)
    assert found.sound
    assert {finding.problem for finding in found.findings} == {"missing"}
    round_ = signed.run.round(1)
    round_.signature("0").write_bytes(round_.signature("1").read_bytes())
    assert not verify(signed.run.root).sound


# --- states of clients ---------------------------------------------------------------------------


def rarely(run: Run, number: int, training: dict[str, Any], aggregation: dict[str, Any]) -> None:
    """A round in which client 2 takes part only if it is the first or the last."""
    clients = ["0", "1", "2"] if number in (1, 5) else ["0", "1"]
    play(run, 1, training, aggregation, clients=clients)


@pytest.mark.parametrize(
    ("training", "aggregation"),
    [SCAFFOLD, ({"algorithm": "ditto"}, {}), ({"encode": "topk=0.1", "feedback": 1.0}, {})],
    ids=["scaffold", "ditto", "residual"],
)
def test_rounds_are_the_same_as_without_gc(
    tmp_path: Path, training: dict[str, Any], aggregation: dict[str, Any]
) -> None:
    run = small_run(tmp_path / "run")
    other = copied(run, tmp_path / "other")
    for number in range(1, 6):
        rarely(run, number, training, aggregation)
        rarely(other, number, training, aggregation)
        gc(run, 1)
        assert_part_of(run, other)
        assert_sound(run)
    assert run.round(5).global_model.read_bytes() == other.round(5).global_model.read_bytes()
    # of the old rounds, what round 5 started from is left
    assert sorted(run.root.glob("rounds/000[1-4]/*/*.safetensors")) == [
        run.round(1).client_state("2"),
        run.round(4).client_state("0"),
        run.round(4).client_state("1"),
    ]
    assert run.round(1).client_state("2").exists()
    for client in ("0", "1", "2"):
        done = train_client(
            run, [client], round_number=5, options=training, execution=Execution(threads=1)
        )
        assert done.clients[0].already_done


def test_states_of_two_algorithms_are_kept_side_by_side(tmp_path: Path) -> None:
    """An old state that is still needed is not taken for the one that a client went on from."""
    run = small_run(tmp_path / "run", clients=("0", "1"), model="cnn", count=16)
    moon, local = {"algorithm": "moon"}, {"local_layers": ("out",)}
    for training in (moon, local, local, local):
        play(run, 1, training, {})
    other = copied(run, tmp_path / "other")
    gc(run, 1)
    assert_sound(run)
    kept = {path.parent.parent.name for path in run.root.glob("rounds/*/client_state/0.*")}
    assert kept == {"0001", "0003", "0004"}
    for one in (run, other):
        play(one, 1, moon, {})
        play(one, 1, local, {})
    assert_part_of(run, other)


def test_a_state_that_is_kept_elsewhere_is_still_asked_for(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    state = tmp_path / "state"
    play(run, 1, *SCAFFOLD, state=state)
    play(run, 3, *SCAFFOLD, state=state, clients=["0", "1"])
    gc(run, 1)
    assert [path.stem for path in run.root.glob("rounds/000[1-3]/updates/*.safetensors")] == ["2"]
    with pytest.raises(NotReadyError, match=r"client_state/2\.safetensors: is missing"):
        train_client(run, ["2"], options=SCAFFOLD[0], execution=Execution(threads=1))
    play(run, 1, *SCAFFOLD, state=state)


def test_a_personal_model_that_was_given_up_does_not_come_back(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    play(run, 1, {"algorithm": "ditto"}, {})
    play(run, 1, {}, {})
    play(run, 2, {}, {}, clients=["0", "1"])
    gc(run, 1)
    assert run.round(1).client_state("2").exists()  # Ditto would go on from it
    assert StateStore(run).newest(4, "2", {"local", "personal"}) is None


# --- stopped, twice at once, refused -------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = small_run(tmp_path_factory.mktemp("trained") / "run", count=16)
    for number in (1, 2, 3, 4):
        rarely(run, number, *SCAFFOLD)
    return run


def stopped_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let removing files be interrupted after so many of them."""
    unlink, left = Path.unlink, iter(range(count))

    def until_stopped(path: Path, missing_ok: bool = False) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", until_stopped)


@pytest.mark.parametrize("which", ["trained", "with_rejected"])
def test_it_can_be_stopped_after_any_file(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    undisturbed: Run = request.getfixturevalue(which)
    whole = copied(undisturbed, tmp_path / "whole")
    total = gc(whole, 1).files
    assert total >= 4
    for count in range(total):
        run = copied(undisturbed, tmp_path / str(count))
        with pytest.MonkeyPatch.context() as monkeypatch:
            stopped_after(count, monkeypatch)
            with pytest.raises(KeyboardInterrupt):
                gc(run, 1)
        assert_sound(run)
        assert starts(run) == starts(undisturbed)
        assert gc(run, 1).files == total - count
        assert snapshot(run) == snapshot(whole)


def starts(run: Run) -> list[str]:
    """What the clients would go on from, as their next updates record it."""
    store = StateStore(run)
    found = (store.before(5, client, "control", server_optimizer="scaffold") for client in THREE)
    return [state.sha256 for state in found if state is not None]


def test_several_at_once_remove_each_file_once(trained: Run, tmp_path: Path) -> None:
    whole, run = copied(trained, tmp_path / "whole"), copied(trained, tmp_path / "run")
    expected = gc(whole, 1)
    done: list[GcResult] = []
    barrier = threading.Barrier(4)

    def remove() -> None:
        barrier.wait()
        done.append(gc(run, 1))

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert snapshot(run) == snapshot(whole)
    assert sum(result.files for result in done) >= expected.files


def test_a_file_that_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_rounds(tmp_path / "run", 2)

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        with pytest.raises(StorageError, match=r"updates/0\.safetensors: cannot remove: Perm"):
            gc(run, 1)
    assert gc(run, 1).files == 3


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Files of somebody, which nobody may remove."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "0.safetensors").write_text("mine")
    yield directory
    assert (directory / "0.safetensors").read_text() == "mine"


def test_links_are_not_followed_out_of_the_run(tmp_path: Path, elsewhere: Path) -> None:
    run = with_rounds(tmp_path / "run", 3)
    for number, path in ((1, run.round(1).updates), (2, run.round(2).path / "client_state")):
        path.rename(tmp_path / f"moved{number}") if path.exists() else None
        path.symlink_to(elsewhere)
    (run.round(2).updates / "1.safetensors").unlink()
    (run.round(2).updates / "1.safetensors").symlink_to(elsewhere / "0.safetensors")
    (run.round(2).updates / "2.safetensors").unlink()
    (run.round(2).updates / "2.safetensors").mkdir()
    assert gc(run, 1).files == 1
    assert not run.round(2).update("0").exists()


# --- the commands --------------------------------------------------------------------------------


def test_the_command_says_what_it_removed(tmp_path: Path) -> None:
    run = with_rounds(tmp_path / "fedrun", 2)
    would = fedcli("gc", "--keep-last", 1, "--dry-run", cwd=tmp_path)
    assert would.status == 0
    assert "would remove 3 files of round 1" in would.out
    done = fedcli("gc", "--keep-last", 1, "--json", cwd=tmp_path)
    assert (done.json["files"], done.json["rounds"]) == (3, [1])
    assert run.round(1).delivered() == []
    assert "nothing to remove" in fedcli("gc", "--keep-last", 1, cwd=tmp_path).out


def test_run_keeps_the_updates_that_it_was_told_to(tmp_path: Path) -> None:
    make = ["--clients", "2", "--limit", "60", "--model", "linear", "--epochs", "1", "--quiet"]
    for name, options in (("all", []), ("some", ["--keep-updates", "1"])):
        assert fedcli("partition", "--run", name, *make, cwd=tmp_path).status == 0
        command = ["run", "--run", name, "--rounds", 3, "--no-evaluate", "--threads", 1, *options]
        done = fedcli(*command, cwd=tmp_path)
        assert done.status == 0, done.err
    everything, some = (Run.open(tmp_path / name) for name in ("all", "some"))
    assert_part_of(some, everything)
    assert [some.round(number).delivered() for number in (1, 2, 3)] == [[], [], ["0", "1"]]
    # as if it had been stopped before it could remove anything
    again = ["run", "--run", "all", "--rounds", 3, "--no-evaluate", "--keep-updates", 1]
    assert fedcli(*again, cwd=tmp_path).status == 0
    assert results(everything) == results(some)


def test_the_residual_before_an_update_that_was_left_out_stays(tmp_path: Path) -> None:
    """It is what the client starts from next, and not the one of its newest update."""
    run = small_run(tmp_path / "run")
    training = {"encode": "topk=0.1", "feedback": 1.0}
    play(run, 1, training, {})
    play(run, 1, training, {}, exclude=["0"])
    play(run, 2, training, {}, clients=["1,2"])
    other = copied(run, tmp_path / "other")
    gc(run, 1)
    assert_sound(run)
    kept = {path.parent.parent.name for path in run.root.glob("rounds/*/client_state/0.*")}
    assert kept == {"0001"}
    for one in (run, other):
        train_client(one, ["0"], options=training, execution=Execution(threads=1))
    assert_part_of(run, other)
