"""``init`` and ``train-client`` in a run whose members sign, in this process."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.networks import pictures
from support.signing import Keys, flip, keys, states, watch_names

from fedcli.cli import execute
from fedcli.client.resume import TrainingCheckpoint
from fedcli.errors import BadInputError, ConflictError, UsageError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.security.keys import SigningKey
from fedcli.security.signatures import check_global, sign_update, signature_fault
from fedcli.setup.start import Start
from fedcli.steps.init import InitResult, init
from fedcli.steps.train_client import train_client

pytestmark = pytest.mark.usefixtures("unsynced")
START = Start(ModelInfo("linear"), plan=Plan(TrainPlan(epochs=1, batch_size=16)))
ONE_THREAD = Execution(threads=1)


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return keys(tmp_path_factory.mktemp("keys"))


def make(root: Path, owned: Keys, start: Start = START) -> InitResult:
    members = {client: owned[client].public for client in ("0", "1")}
    coordinator = owned["coordinator"].path
    return init(root, ("a", "b"), members=members, key=coordinator, image_size=8, start=start)


def with_data(root: Path) -> Run:
    """The run, with pictures for client 0; a shard stands for its own folder here."""
    run = Run.open(root)
    x, y = (values.numpy() for values in pictures(20))
    described = Metadata(Kind.SHARD, run.id, client="0", num_examples=20)
    save(run.client_shard("0"), {"x": x, "y": y}, described)
    return run


@pytest.fixture
def run(tmp_path: Path, owned: Keys) -> Run:
    make(tmp_path / "fedrun", owned)
    return with_data(tmp_path / "fedrun")


def train(run: Run, key: SigningKey | None, **more: object):
    path = None if key is None else key.path
    return train_client(run, ["0"], key=path, **{"execution": ONE_THREAD, **more}).clients[0]


def fault(run: Run) -> str | None:
    round_ = run.round(1)
    return signature_fault(run, round_, "0", digest(round_.update("0")))


# init


def test_members_are_the_clients_and_round_zero_is_signed(tmp_path, owned):
    made = make(tmp_path / "fedrun", owned)
    run = Run.open(tmp_path / "fedrun")
    assert run.info.clients == made.clients == ("0", "1")
    assert run.info.members == {client: owned[client].public for client in ("0", "1")}
    assert run.info.coordinator == made.coordinator == owned["coordinator"].public
    assert made.next.startswith("fedcli train-client --id 0 --data PATH --key FILE --run ")
    check_global(run, run.round(0), digest(run.round(0).global_model))
    before = states(run.root)
    assert make(tmp_path / "fedrun", owned).already_done
    assert states(run.root) == before
    with pytest.raises(ConflictError, match="its coordinator is"):
        init(tmp_path / "fedrun", ("a", "b"), members=run.info.members, image_size=8, start=START)


def test_keys_change_nothing_but_the_run_that_has_them(tmp_path, owned):
    """The model is the same tensors, and a run without keys has no file and no key of them."""
    make(tmp_path / "signed", owned)
    init(tmp_path / "plain", ("a", "b"), clients=("0", "1"), image_size=8, start=START)
    plain, signed = (Run.open(tmp_path / name) for name in ("plain", "signed"))
    assert not {"members", "coordinator"} & json.loads((plain.root / "run.json").read_text()).keys()
    assert not list(plain.root.rglob("*.sig"))
    found = []
    for one in (plain, signed):
        with Checkpoint(one.round(0).global_model) as model:
            found.append({name: array.tobytes() for name, array in model.tensors().items()})
    assert found[0] == found[1]


KEY = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.mark.parametrize(
    ("typed", "status", "says"),
    [
        (["--member", "mercy"], 2, "--member: expected ID=KEY, found 'mercy'"),
        (
            ["--member", "mercy="],
            2,
            "--member mercy: expected a public key as printed by fedcli keygen",
        ),
        (["--member", f"me rcy={KEY}"], 2, "client id 'me rcy': expected letters"),
        (["--member", f"a={KEY}", "--member", f"a={KEY}"], 2, "--member: names 'a' twice"),
        (["--member", f"a={KEY}", "--clients", "a"], 2, "--clients: with --member, the members"),
        (["--key", "nowhere.key"], 3, "nowhere.key: no such file"),
        (["--key", "fedrun/c.key"], 2, "fedrun/c.key: is in the run directory"),
    ],
)
def test_what_init_refuses(tmp_path, monkeypatch, capsys, typed, status, says):
    monkeypatch.chdir(tmp_path)
    assert execute(["init", "--num-classes", "2", "--model", "linear", *typed]) == status
    assert capsys.readouterr().err.startswith(f"error: {says}")
    assert not Path("fedrun").exists()


def test_init_takes_what_keygen_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    typed = []
    for name in ("mercy", "st-olav"):
        assert execute(["keygen", f"{name}.key", "--quiet"]) == 0
        typed += ["--member", f"{name}={capsys.readouterr().out.strip()}"]
    assert execute(["init", "--num-classes", "2", "--model", "linear", *typed]) == 0
    printed = capsys.readouterr().out
    assert "updates are signed by: mercy, st-olav\n" in printed
    assert "global models" not in printed
    assert "--id mercy --data PATH --key FILE\n" in printed
    assert list(Run.open(Path("fedrun")).info.members) == ["mercy", "st-olav"]


# train-client


def test_an_update_is_signed_and_a_repeat_touches_nothing(run, owned):
    done = train(run, owned["0"])
    assert not done.already_done
    assert fault(run) is None
    before = states(run.root)
    assert train(run, owned["0"]).already_done
    assert states(run.root) == before


@pytest.mark.parametrize(("name", "says"), [(None, "are signed; give"), ("1", "is not the key of")])
def test_without_the_right_key_nothing_is_trained(run, owned, name, says):
    before = states(run.root)
    with pytest.raises(UsageError, match=says):
        train(run, None if name is None else owned[name])
    assert states(run.root) == before


def test_an_update_is_never_there_without_its_signature(run, owned, monkeypatch):
    signed = []

    def look(place: Path) -> None:
        if place == run.round(1).update("0"):
            signed.append(run.round(1).signature("0").read_text())

    watch_names(monkeypatch, look)
    sha256 = train(run, owned["0"]).sha256
    assert signed == [run.round(1).signature("0").read_text()]
    assert sha256 in signed[0]


def without(path: Path) -> None:
    path.unlink()


def broken(path: Path) -> None:
    flip(path, 8 * (path.stat().st_size // 2))


@pytest.mark.parametrize("damage", [without, broken])
def test_a_lost_signature_is_made_again_by_training_again(
    run, owned, damage: Callable[[Path], None]
):
    sha256 = train(run, owned["0"]).sha256
    damage(run.round(1).signature("0"))
    assert fault(run) is not None
    again = train(run, owned["0"])
    assert (again.already_done, again.sha256) == (False, sha256)
    assert fault(run) is None


def test_nobody_gets_a_forged_update_signed(run, owned):
    """It says of itself what the member's own would say, but its numbers are others."""
    path = run.round(1).update("0")
    honest = train(run, owned["0"]).sha256
    with Checkpoint(path) as update:
        metadata, values = update.metadata, update.tensors()
    forged = save(path, {name: 1000 * array for name, array in values.items()}, metadata)
    sign_update(run, run.round(1), "0", forged, owned["1"])
    assert str(fault(run)) == "is not signed by the key of client 0"
    assert train(run, owned["0"]).sha256 == honest
    assert fault(run) is None


def test_a_lost_signature_of_a_complete_round_is_told(run, owned):
    train(run, owned["0"])
    run.round(1).signature("0").unlink()
    shutil.copy(run.round(0).global_model, run.round(1).global_model)
    with pytest.raises(ConflictError, match="round 1 is complete"):
        train(run, owned["0"], round_number=1)


def test_a_base_that_is_not_the_coordinators_is_not_trained_from(run, owned):
    with Checkpoint(run.round(0).global_model) as model:
        metadata, values = model.metadata, model.tensors()
    save(run.round(0).global_model, {n: v + 1 for n, v in values.items()}, metadata)
    with pytest.raises(BadInputError, match="is signed for sha256"):
        train(run, owned["0"])
    assert not run.round(1).path.exists()


def test_what_others_can_change_is_not_kept_and_not_taken_up(run, owned, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--state: updates are signed") as caught:
        train(run, owned["0"], execution=Execution(threads=1, checkpoint_every=1))
    assert caught.value.hint is not None
    assert "--state DIR" in caught.value.hint
    with pytest.raises(UsageError, match="--state: updates are signed"):
        train(run, owned["0"], options={"algorithm": "ditto"})
    read = []
    really_read = TrainingCheckpoint.read
    monkeypatch.setattr(
        TrainingCheckpoint, "read", lambda *args: read.append(args) or really_read(*args)
    )
    train(run, owned["0"])
    assert read == []
    own = Execution(threads=1, checkpoint_every=1, state=tmp_path / "own")
    train(run, owned["0"], execution=own, force=True)
    run.round(1).update("0").unlink()
    train(run, owned["0"], execution=own)
    assert len(read) == 1
