"""``aggregate`` in a run whose updates and global models are signed."""

import shutil
from pathlib import Path

import pytest
from support.handmade import snapshot
from support.runs import deliver, tensors
from support.signing import CLIENTS, Keys, Signed, flip, signed_run, states, watch_names

from fedcli.cli import execute
from fedcli.errors import BadInputError, ConflictError, StorageError, UpdateError, UsageError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.manifest import Manifest
from fedcli.run import Run
from fedcli.security.signatures import check_global, check_server_state, sign_update
from fedcli.steps.aggregate import AggregateResult, aggregate
from fedcli.steps.partial import partial
from fedcli.steps.status import status

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def signed(tmp_path: Path, owned: Keys) -> Signed:
    """A run in which all members have delivered for round 1."""
    made = signed_run(tmp_path / "fedrun", owned)
    for number, client in enumerate(CLIENTS, 1):
        made.deliver(client, tensors(number))
    return made


def finish(signed: Signed, **more: object) -> AggregateResult:
    return aggregate(signed.run, key=signed.coordinator.path, **more)


def unsigned(run: Run) -> None:
    run.round(1).signature("1").unlink()


def bit_of_update(run: Run) -> None:
    flip(run.round(1).update("1"), 8 * (run.round(1).update("1").stat().st_size - 9))


def of_another(run: Run) -> None:
    shutil.copy(run.round(1).signature("2"), run.round(1).signature("1"))


def replaced(run: Run) -> None:
    """An update that fits, with no signature of the member's for it."""
    deliver(run, "1", tensors(50))


@pytest.mark.parametrize("damage", [unsigned, bit_of_update, of_another, replaced])
def test_an_update_that_is_not_signed_is_refused(signed, damage):
    damage(signed.run)
    before = snapshot(signed.run)
    path = signed.run.round(1).update("1")
    with pytest.raises(UpdateError, match=r"is (not )?signed") as caught:
        finish(signed)
    assert caught.value.message.startswith(f"{path}: is ")
    assert snapshot(signed.run) == before
    with pytest.raises(UpdateError, match=r"is (not )?signed"):
        finish(signed, min_clients=2, strict=True)
    result = finish(signed, min_clients=2)
    assert [entry.client for entry in result.clients] == ["0", "2"]
    assert [entry.client for entry in result.rejected] == ["1"]
    assert "signed" in result.rejected[0].reason
    assert finish(signed, round_number=1, min_clients=2).already_done


def test_the_global_model_is_signed_and_the_next_round_starts_from_it(signed):
    run, first = signed.run, finish(signed)
    check_global(run, run.round(1), first.sha256)
    before = states(run.root)
    assert finish(signed, round_number=1).already_done
    assert states(run.root) == before
    for client in CLIENTS:
        signed.deliver(client, tensors(9), round_number=2)
    assert status(run).next.startswith("fedcli aggregate --key FILE")
    second = finish(signed)
    check_global(run, run.round(2), second.sha256)


def test_an_update_of_the_round_before_does_not_count_again(signed):
    finish(signed)
    run, old, new = signed.run, signed.run.round(1), signed.run.round(2)
    for client in CLIENTS:
        signed.deliver(client, tensors(9), round_number=2)
    shutil.copy(old.update("1"), new.update("1"))
    shutil.copy(old.signature("1"), new.signature("1"))
    with pytest.raises(UpdateError):
        finish(signed)
    sha256 = deliver(run, "1", tensors(1), round_number=2)
    sign_update(run, old, "1", sha256, signed.members["1"])
    shutil.copy(old.signature("1"), new.signature("1"))
    with pytest.raises(UpdateError, match="is signed for round 1, not 2"):
        finish(signed)


def test_without_the_coordinators_key_no_model_is_made(signed):
    before = snapshot(signed.run)
    with pytest.raises(UsageError, match="global models of this run are signed"):
        aggregate(signed.run)
    with pytest.raises(UsageError, match="is not the coordinator's key"):
        aggregate(signed.run, key=signed.members["1"].path)
    assert snapshot(signed.run) == before


def test_the_signature_is_there_before_the_model(signed, monkeypatch):
    order: list[str] = []
    watch_names(monkeypatch, lambda place: order.append(place.name))
    finish(signed)
    assert order.index("global.sig") < order.index("global.safetensors")


def test_a_base_that_was_replaced_is_not_used(signed):
    base = signed.run.round(0).global_model
    flip(base, 8 * (base.stat().st_size - 9))
    with pytest.raises(BadInputError, match=r"0000/global\.safetensors: is signed for sha256"):
        finish(signed)
    assert not signed.run.round(1).global_model.exists()


def test_a_model_that_is_not_the_coordinators_is_made_again(signed):
    run, made = signed.run, finish(signed)
    run.round(1).global_signature.unlink()
    with pytest.raises(ConflictError, match=r"is not signed: global\.sig is missing"):
        finish(signed, round_number=1)
    assert finish(signed, round_number=1, force=True).sha256 == made.sha256
    check_global(run, run.round(1), made.sha256)


def test_a_signature_is_put_back_when_its_model_does_not_get_there(signed, monkeypatch):
    run, made = signed.run, finish(signed)
    before = snapshot(run)
    refused: list[Path] = []

    def refuse(place: Path) -> None:
        if place == run.round(1).global_model and not refused:
            refused.append(place)
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        watch_names(patched, refuse)
        with pytest.raises(StorageError, match="No space left"):
            finish(signed, round_number=1, force=True, options={"weighting": "uniform"})
    assert snapshot(run) == before
    check_global(run, run.round(1), made.sha256)


def test_what_the_server_keeps_is_the_coordinators(signed):
    run = signed.run
    options = {"strategy": "fedadam"}
    finish(signed, options=options)
    kept = run.round(1).server_state
    check_server_state(run, run.round(1), digest(kept))
    for client in CLIENTS:
        signed.deliver(client, tensors(9), round_number=2)
    flip(kept, 8 * (kept.stat().st_size - 9))
    manifest = run.round(1).manifest
    was = Manifest.try_read(manifest)
    assert was is not None
    manifest.write_text(manifest.read_text().replace(str(was.server_state), digest(kept)))
    with pytest.raises(
        BadInputError, match=r"server_state\.safetensors: is not the state that .*global\.sig"
    ):
        finish(signed, options=options)


def test_members_are_not_added_up_in_part(signed, tmp_path):
    output = tmp_path / "part.safetensors"
    with pytest.raises(UsageError, match="--partial: a partial mean carries no signatures"):
        partial(signed.run, ["0", "1"], output)
    assert not output.exists()
    with pytest.raises(UsageError, match="--partial: a partial mean carries no signatures"):
        finish(signed, members=[str(output)])


def test_the_coordinator_signs_no_model_that_it_finds(signed):
    """A stranger's model, with a manifest that says that it is ours, and no signature."""
    run, made = signed.run, finish(signed)
    first = run.round(1)
    with Checkpoint(first.global_model) as model:
        metadata, values = model.metadata, model.tensors()
    forged = save(first.global_model, {n: -v for n, v in values.items()}, metadata)
    first.manifest.write_text(first.manifest.read_text().replace(made.sha256, forged))
    for damage in (lambda: None, lambda: first.global_signature.unlink()):
        damage()
        with pytest.raises(ConflictError, match=r"is (not )?signed"):
            finish(signed, round_number=1)
        with pytest.raises(BadInputError, match=r"is (not )?signed"):
            check_global(run, first, forged)
    assert finish(signed, round_number=1, force=True).sha256 == made.sha256
    check_global(run, first, made.sha256)


def test_a_partial_mean_is_not_signed_by_anybody(signed, capsys):
    typed = ["--partial", "-o", "part.safetensors", "--key", str(signed.coordinator.path)]
    assert execute(["aggregate", "--run", str(signed.run.root), *typed]) == 2
    assert "--key: has no meaning with --partial" in capsys.readouterr().err
