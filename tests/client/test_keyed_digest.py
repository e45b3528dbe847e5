"""The digest by which a client recognises its examples, and a reader of the run does not."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.masked_runs import masked_run
from support.networks import pictures
from support.small_runs import contents, facts, small_run

from fedcli.client.existing_update import fingerprint
from fedcli.datasets.shards import Examples
from fedcli.errors import ConflictError
from fedcli.formats.checkpoint import save
from fedcli.plan.execution import Execution
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.security.examples_key import ExamplesKey
from fedcli.steps.aggregate import aggregate
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import verify
from fedcli.verification.findings import Problem
from fedcli.verification.replay_sandbox import UserCode


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small_run(tmp_path / "fedrun", clients=("0", "1"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A client's own pictures."""
    x, y = (values.numpy() for values in pictures(24))
    np.savez(tmp_path / "own.npz", x=x, y=y)
    return tmp_path / "own.npz"


def train(run: Run, own: Path | None, state: Path | None = None, **more: Any) -> str:
    """Train client 0, by default; return the digest that its update names."""
    client = more.pop("client", "0")
    given = {"data": None if own is None else str(own), **more}
    execution = Execution(threads=1, state=state, checkpoint_every=1)
    train_client(run, [client], execution=execution, **given)
    return str(facts(run, more.get("round_number", 1), client)["examples"])


def plain_digest(own: Path) -> str:
    with np.load(own) as found:
        return fingerprint(Examples(found["x"], found["y"].astype(np.int64)))


def guesses(run: Run, plain: str) -> set[str]:
    """Every digest that somebody can compute who has the pictures and the whole directory."""
    known = [run.id, run.id[:16], "", *(p.name for p in run.root.rglob("*"))]
    found = {plain, hashlib.sha256(bytes.fromhex(plain)).hexdigest()}
    for key in (ExamplesKey.of_simulation(one) for one in known):
        found |= {key.digest(run.id, 1, client, plain) for client in run.info.clients}
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_who_holds_the_same_pictures_cannot_tell(
    run: Run, own: Path, tmp_path: Path, masked: bool
) -> None:
    state, member = tmp_path / "state", dict[str, Any]()
    if masked:
        made = masked_run(tmp_path / "masked")
        run, member = made.run, {"client": "a", "key": made.keys["a"].path}
    digest = train(run, own, state, **member)
    assert (state / "examples.key").exists() != masked  # else it follows from the private key
    tried = guesses(run, plain_digest(own))
    assert digest not in tried
    read = [path.read_bytes() for path in run.root.rglob("*") if path.is_file()]
    for guess in tried:
        raw = bytes.fromhex(guess)
        spellings = (guess.encode(), guess[:8].encode(), raw, base64.b64encode(raw))
        assert not [file for file in read for one in spellings if one in file]


def test_the_test_above_finds_a_plain_digest(run: Run) -> None:
    """In a simulation, whose examples are in the run, the key is public."""
    plain = fingerprint_of(run, "0")
    assert train(run, None) in guesses(run, plain)


def fingerprint_of(run: Run, client: str) -> str:
    tensors, _ = contents(run.client_shard(client))
    return fingerprint(Examples(tensors["x"], tensors["y"]))


def test_no_two_digests_of_the_same_examples_are_alike(run: Run, own: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    found = [train(run, own, state, client=client) for client in "01"]
    found.append(train(run, own, tmp_path / "other", client="1", force=True))
    aggregate(run)
    found.append(train(run, own, state, round_number=2))
    assert len(set(found)) == 4


def test_its_client_recognises_them(run: Run, own: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    digest = train(run, own, state)
    made = run.round(1).update("0").read_bytes()
    assert train(run, own, state) == digest  # nothing to do
    assert train(run, own, state, force=True) == digest
    assert run.round(1).update("0").read_bytes() == made
    (state / "examples.key").unlink()
    with pytest.raises(ConflictError, match="other examples, or another key of their digest"):
        train(run, own, state)


class Interrupted(Silence):
    """Progress of a training that is interrupted after its first epoch, or else listened to."""

    def __init__(self, *, stop: bool) -> None:
        self.stop, self.said = stop, ""

    def say(self, line: str) -> None:
        self.said += line
        if self.stop and "epoch 1" in line:
            raise KeyboardInterrupt


def test_an_interrupted_training_goes_on(run: Run, own: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(run, own, tmp_path / "state", progress=Interrupted(stop=True))
    listener = Interrupted(stop=False)
    train(run, own, tmp_path / "state", progress=listener)
    assert "resuming after 1 epochs" in listener.said


def _as_before_keyed_digests(run: Run) -> None:
    """Make the update of client 0 one that an older fedcli has made."""
    tensors, metadata = contents(run.round(1).update("0"))
    training = replace(metadata.training, examples=fingerprint_of(run, "0"))
    save(run.round(1).update("0"), tensors, replace(metadata, training=training))
    run.round(1).telemetry("0").unlink()  # it names the SHA-256 of the update


def test_an_update_of_an_older_fedcli_counts_as_made(run: Run) -> None:
    train(run, None)
    _as_before_keyed_digests(run)
    made = run.round(1).update("0").read_bytes()
    train(run, None)
    assert run.round(1).update("0").read_bytes() == made
    assert aggregate(run, min_clients=1).round == 1
    train(run, None, round_number=2)


def _not_replayed(run: Run) -> str:
    found = verify(run.root, replay=UserCode())
    assert found.sound
    return "".join(one.message for one in found.findings if one.problem == Problem.NOT_REPLAYED)


def test_who_has_the_examples_in_the_run_can_replay(run: Run, own: Path, tmp_path: Path) -> None:
    train(run, None)
    assert not _not_replayed(run)
    _as_before_keyed_digests(run)
    assert "a fedcli that names examples by another digest" in _not_replayed(run)
    train(run, own, tmp_path / "state", force=True)
    assert "or on data of the client's own" in _not_replayed(run)
