"""A client's copy is sound as far as it goes; a coordinator's, only if it is whole."""

import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.handmade import planned
from support.runs import ROLES, fedcli, tensors
from support.signing import CLIENTS, keys, signed_run
from support.tampering import flip, resave, rewrite, send

from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Role
from fedcli.run import Run
from fedcli.run.exchange import files_of_round
from fedcli.security.signatures import sign_global
from fedcli.steps.aggregate import aggregate
from fedcli.steps.gc import gc
from fedcli.steps.verify import verify
from fedcli.verification.copies import holds_several

pytestmark = pytest.mark.usefixtures("unsynced")
OWN = "rounds/0003/updates/1.safetensors"


def coordinator(root: Path, strategy: str = "fedavg", rounds: int = 3) -> Run:
    """A run of three rounds, of which each client has updates with telemetry."""
    run = planned(root, CLIENTS)
    for number in range(1, rounds + 1):
        for client in CLIENTS:
            send(run, client, number)
        aggregate(run, options={"strategy": strategy})
    return run


def at_client(run: Run, root: Path, *, client: str = "1", rounds: tuple[int, ...] = (2,)) -> Run:
    """The files that a client needs after these rounds, and its own of the next one."""
    files = [run.root / "run.json"]
    for number in rounds:
        own = run.round(number + 1)
        files += [path for path in files_of_round(run, run.round(number)) if path.exists()]
        files += [own.update(client), own.telemetry(client), own.signature(client)]
    for file in filter(Path.exists, files):
        place = root / file.relative_to(run.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return Run.open(root)


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "scaffold"])
@pytest.mark.parametrize("rounds", [(0,), (2,), (1, 2), (0, 1, 2)])
def test_what_a_client_needs_is_sound_as_far_as_it_goes(
    strategy: str, rounds: tuple[int, ...], tmp_path: Path
) -> None:
    run = planned(tmp_path / "coordinator", CLIENTS)
    for number in (1, 2, 3):
        for client in CLIENTS:
            send(run, client, number)
            if strategy == "scaffold":
                with_controls(run, client, number)
        aggregate(run, options={"strategy": strategy})
    assert verify(run.root).findings == ()
    copy = at_client(run, tmp_path / "client", rounds=rounds)
    for number in range(1, max(rounds) + 1):  # as docs/operations.md says of SCAFFOLD
        if strategy == "scaffold":
            copy.round(number).path.mkdir(exist_ok=True)
            shutil.copy(run.round(number).manifest, copy.round(number).manifest)
    result = verify(copy.root)
    assert result.sound, result.findings
    assert result.whole == (rounds == (0,))  # before any round, nothing else is anywhere


def with_controls(run: Run, client: str, number: int) -> None:
    from support.handmade import controls_of

    values = tensors(100 * number + int(client))
    values |= controls_of(values, ROLES, int(client))
    roles = ROLES | dict.fromkeys((name for name in values if "/" in name), Role.CONTROL)
    resave(run.round(number).update(client), values, roles=roles)
    with Checkpoint(run.round(number).update(client)) as update:
        sha256 = update.digest()
    rewrite(run.round(number).telemetry(client), lambda told: told.update(sha256=sha256))


def test_the_command_lists_what_is_not_here_and_exits_with_0(tmp_path: Path) -> None:
    at_client(coordinator(tmp_path / "c"), tmp_path / "fedrun")
    done = fedcli("verify", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith("fedrun: sound as far as it goes\n")
    assert "rounds/0000/global.safetensors: is not here, and that of the round after" in done.out
    assert "rounds/0002/aggregate.json: is not here" in done.out
    values = fedcli("verify", "--json", cwd=tmp_path).json
    assert (values["sound"], values["whole"]) == (True, False)
    whole = fedcli("verify", "--whole", cwd=tmp_path)
    assert whole.status == 4
    assert "fedrun: not sound" in whole.out


def test_a_model_that_nothing_here_names_is_listed(tmp_path: Path) -> None:
    copy = at_client(coordinator(tmp_path / "c"), tmp_path / "client")
    copy.round(3).update("1").unlink()
    copy.round(3).telemetry("1").unlink()
    found = {f.file: f.message for f in verify(copy.root).findings}
    message = found["rounds/0002/global.safetensors"]
    assert message == "is here, but nothing here says what its SHA-256 should be"


TAMPERINGS: dict[str, tuple[Callable[[Run], object], str]] = {
    "its update": (lambda run: flip(run.root / OWN), OWN),
    "the model": (lambda run: flip(run.round(2).global_model), OWN),
    "its telemetry": (
        lambda run: rewrite(run.round(3).telemetry("1"), lambda t: t.update(sha256="1" * 64)),
        OWN,
    ),
    "run.json": (
        lambda run: rewrite(run.root / "run.json", lambda r: r.update(seed=9)),
        "run.json",
    ),
    "an update of another": (lambda run: resave(run.root / OWN, client="2"), OWN),
}


@pytest.mark.parametrize(("change", "file"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_what_is_changed_at_a_client_is_found(
    change: Callable[[Run], object], file: str, tmp_path: Path
) -> None:
    copy = at_client(coordinator(tmp_path / "c"), tmp_path / "client")
    change(copy)
    result = verify(copy.root)
    assert not result.sound
    assert file in {finding.file for finding in result.findings if finding.wrong}


def test_signatures_at_a_client_are_checked_and_have_to_be_there(tmp_path: Path) -> None:
    signed = signed_run(tmp_path / "fedrun", keys(tmp_path))
    run = signed.run
    for number in (1, 2, 3):
        for client in CLIENTS:
            signed.deliver(client, tensors(int(client) + number), round_number=number)
        aggregate(run, key=tmp_path / "coordinator.key")
    copy = at_client(run, tmp_path / "client")
    result = verify(copy.root)
    assert result.sound
    messages = {finding.message for finding in result.findings}
    assert "is here, but nothing here says what its SHA-256 should be" not in messages
    model, signature = copy.round(2).global_model, copy.round(2).global_signature
    kept = model.read_bytes()
    flip(model)
    assert not verify(copy.root).sound
    model.write_bytes(kept)
    for path in (signature, copy.round(3).signature("1")):
        kept = path.read_bytes()
        path.unlink()
        assert not verify(copy.root).sound
        path.write_bytes(kept)
    sign_global(copy, copy.round(2), "1" * 64, None, signed.members["1"])
    assert not verify(copy.root).sound


# --- as an attacker at the coordinator's, who has changed a file and removes the traces ----------


def needed(run: Run) -> list[Path]:
    """The files without which the coordinator's copy is not sound."""
    rounds = [run.round(number) for number in range(4)]
    return [*(r.global_model for r in rounds[:3]), *(r.manifest for r in rounds[1:])]


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm"])
def test_no_needed_file_can_be_deleted_unnoticed(strategy: str, tmp_path: Path) -> None:
    run = coordinator(tmp_path / "run", strategy)
    files = needed(run)
    for gone in (*itertools.combinations(files, 1), *itertools.combinations(files, 2), files):
        kept = {path: path.read_bytes() for path in gone}
        for path in gone:
            path.unlink()
        assert not verify(run.root).sound, gone
        for path, content in kept.items():
            path.write_bytes(content)
    assert verify(run.root).sound


REMOVALS: dict[str, Callable[[Path], bool]] = {
    "all updates": lambda path: path.parent.name == "updates" and path.suffix == ".safetensors",
    "all telemetry": lambda path: path.parent.name == "updates" and path.suffix == ".json",
    "all but one client": lambda path: path.parent.name == "updates" and path.stem == "2",
    "all of two rounds": lambda path: path.parts[-2] in ("0001", "0002"),
    "all manifests": lambda path: path.name == "aggregate.json",
    "all old models": lambda path: path.name == "global.safetensors" and "0003" not in path.parts,
}


@pytest.mark.parametrize("also", REMOVALS)
def test_removing_other_files_too_does_not_hide_it(also: str, tmp_path: Path) -> None:
    run = coordinator(tmp_path / "run")
    for path in run.root.rglob("*.*"):
        if REMOVALS[also](path):
            path.unlink()
    run.round(1).manifest.unlink(missing_ok=True)
    run.round(1).global_model.unlink(missing_ok=True)
    assert not verify(run.root).sound


def test_after_gc_it_is_still_the_coordinators_copy(tmp_path: Path) -> None:
    run = coordinator(tmp_path / "run")
    gc(run, 1)
    assert verify(run.root).sound
    run.round(1).manifest.unlink()
    assert not verify(run.root).sound


def test_a_copy_reduced_to_a_clients_is_never_called_sound_alone(tmp_path: Path) -> None:
    """It is the same bytes as a client's copy; only the coordinator knows that it is not one."""
    run = coordinator(tmp_path / "run")
    copy = at_client(run, tmp_path / "fedrun")
    flip(copy.round(2).global_model)
    (copy.root / OWN).unlink()
    (copy.root / OWN).with_suffix(".json").unlink()
    done = fedcli("verify", cwd=tmp_path)
    assert done.out.endswith("fedrun: sound as far as it goes\n")
    assert "is here, but nothing here says what its SHA-256 should be" in " ".join(done.out.split())
    assert fedcli("verify", "--whole", cwd=tmp_path).status == 4


def seconds_to_tell(root: Path, clients: int) -> float:
    run = planned(root, tuple(map(str, range(clients))))
    run.round(1).updates.mkdir(parents=True)
    for number in range(clients):
        (run.round(1).updates / f"stranger-{number}.json").touch()
    started = time.process_time()
    assert not holds_several(run)
    return time.process_time() - started


def test_it_takes_time_in_proportion_to_the_clients(tmp_path: Path) -> None:
    few, many = (seconds_to_tell(tmp_path / str(n), n) for n in (1000, 8000))
    assert many < 24 * few  # 64 times as much, if each file is sought in the list of clients
