"""Signatures hold for one file in one place of one run, and for nothing else."""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from support.runs import ROLES, deliver, run_info, tensors
from support.signing import Keys, Signed, flip, signed_run

from fedcli.errors import BadInputError, RunFormatError, UsageError
from fedcli.evaluation.candidates import global_models
from fedcli.formats.checkpoint import digest, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.records import encode
from fedcli.run import Run
from fedcli.run.info import run_id
from fedcli.security.keys import verifies
from fedcli.security.signatures import (
    Statement,
    check_global,
    check_no_partials,
    check_server_state,
    coordinator_key,
    global_fault,
    member_key,
    member_keys,
    sign_global,
    sign_update,
    signature_fault,
)
from fedcli.storage.atomic import canonical_json

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def signed(tmp_path: Path, owned: Keys) -> Signed:
    """A run with an update of client 1, and complete up to round 3."""
    made = signed_run(tmp_path / "fedrun", owned)
    for number in (1, 2, 3):
        made.finish(number, seed=number)
    made.deliver("1", tensors(7), round_number=4)
    return made


def fault(run: Run, client: str, number: int, sha256: str | None = None) -> str | None:
    """What is wrong with an update as it is there, or as it is said to be."""
    round_ = run.round(number)
    return signature_fault(run, round_, client, sha256 or digest(round_.update(client)))


def place(run: Run, client: str, number: int, of: tuple[Path, Path]) -> None:
    """Put copies of an update and of its signature in another place."""
    round_ = run.round(number)
    round_.updates.mkdir(parents=True, exist_ok=True)
    shutil.copy(of[0], round_.update(client))
    shutil.copy(of[1], round_.signature(client))


def update_of(signed: Signed) -> tuple[Path, Path]:
    round_ = signed.run.round(4)
    return round_.update("1"), round_.signature("1")


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_signed_update_has_no_fault(signed):
    assert fault(signed.run, "1", 4) is None
    assert signature_fault(signed.run, signed.run.round(4), "1", None) is None


def test_the_documented_bytes_are_what_is_signed(signed):
    """As the page on the run directory says, without anything of fedcli."""
    root = signed.run.root
    public = json.loads((root / "run.json").read_text())["members"]["1"]
    found = json.loads((root / "rounds/0004/updates/1.sig").read_text())
    statement = json.dumps(found["signed"], sort_keys=True, separators=(",", ":"))
    message = f"fedcli-signature-1\n{statement}".encode()
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("ed25519:")))
    key.verify(base64.b64decode(found["signature"]), message)
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(found["signature"]), message + b" ")
    assert found["signed"] == {
        "kind": "update",
        "run": json.loads((root / "run.json").read_text())["id"],
        "round": 4,
        "client": "1",
        "sha256": digest(root / "rounds/0004/updates/1.safetensors"),
    }
    assert set(found) == {"algorithm", "format", "signature", "signed"}


def test_signing_again_gives_the_same_bytes(signed):
    update, signature = update_of(signed)
    before = signature.read_bytes()
    sign_update(signed.run, signed.run.round(4), "1", digest(update), signed.members["1"])
    assert signature.read_bytes() == before


@pytest.mark.parametrize(("client", "number"), [("1", 3), ("1", 5), ("0", 4), ("2", 4)])
def test_a_copy_in_another_place_is_not_signed_there(signed, client, number):
    place(signed.run, client, number, update_of(signed))
    said = fault(signed.run, client, number)
    expected = "round 4, not" if number != 4 else "client '1', not"
    assert said is not None
    assert said.startswith(f"is signed for {expected} ")


def test_a_copy_in_another_run_is_not_signed_there(signed, owned, tmp_path):
    other = signed_run(tmp_path / "other", owned, seed=1)
    place(other.run, "1", 4, update_of(signed))
    assert str(fault(other.run, "1", 4)).startswith(f"is signed for run '{signed.run.id}', not")


@pytest.mark.parametrize(
    ("key", "value", "client", "number"),
    [("round", 5, "1", 5), ("client", "2", "2", 4), ("kind", "update", "1", 4)],
)
def test_who_rewrites_a_statement_has_not_signed_it(signed, key, value, client, number):
    if (client, number) != ("1", 4):
        place(signed.run, client, number, update_of(signed))
    path = signed.run.round(number).signature(client)
    if key == "kind":
        sign_global(signed.run, signed.run.round(4), "0" * 64, None, signed.members["1"])
        forged = json.loads(signed.run.round(4).global_signature.read_text())["signature"]
        rewrite(path, lambda values: values.update(signature=forged))
    rewrite(path, lambda values: values["signed"].update({key: value}))
    assert fault(signed.run, client, number) == f"is not signed by the key of client {client}"


def test_no_member_signs_for_another(signed):
    sha256 = deliver(signed.run, "2", tensors(8), round_number=4)
    sign_update(signed.run, signed.run.round(4), "2", sha256, signed.members["1"])
    assert fault(signed.run, "2", 4) == "is not signed by the key of client 2"
    sign_update(signed.run, signed.run.round(4), "2", sha256, signed.coordinator)
    assert fault(signed.run, "2", 4) == "is not signed by the key of client 2"
    assert fault(signed.run, "9", 4, sha256) == "is of no member of this run"


@given(st.data())
def test_an_update_with_one_bit_changed_is_not_signed(tmp_path_factory, owned, data):
    signed = signed_run(tmp_path_factory.mktemp("bits"), owned)
    signed.deliver("1", tensors(7))
    update = signed.run.round(1).update("1")
    bit = data.draw(st.integers(0, 8 * update.stat().st_size - 1))
    flip(update, bit)
    assert str(fault(signed.run, "1", 1)).startswith("is signed for sha256 ")
    flip(update, bit)
    assert fault(signed.run, "1", 1) is None


def test_a_signature_with_any_one_bit_changed_is_none(signed):
    found = json.loads(update_of(signed)[1].read_text())
    public, raw = signed.members["1"].public, base64.b64decode(found["signature"])
    message = Statement(**found["signed"]).message()
    assert verifies(public, message, found["signature"])
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert not verifies(public, message, base64.b64encode(changed).decode())


def test_a_signature_file_with_one_bit_changed_never_says_more_than_was_signed(signed):
    """It is refused, or it says what it said: the flip was in a key that nobody reads."""
    update, path = update_of(signed)
    sha256, before = digest(update), json.loads(path.read_text())
    for bit in range(0, 8 * path.stat().st_size, 5):
        flip(path, bit)
        if fault(signed.run, "1", 4, sha256) is None:
            after = json.loads(path.read_text())
            assert (after["signed"], after["signature"]) == (before["signed"], before["signature"])
        flip(path, bit)


def respelt(values: dict[str, Any]) -> None:
    """The same 64 bytes in another base64: four bits of its last letter say nothing."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = values["signature"]
    other = letters[letters.index(text[85]) + 1]
    values["signature"] = f"{text[:85]}{other}=="
    assert base64.b64decode(values["signature"]) == base64.b64decode(text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (respelt, "is not signed by the key of client 1"),
        (lambda v: v.update(signature=""), "is not signed by the key of client 1"),
        (lambda v: v.update(signature="é" * 88), "is not signed by the key of client 1"),
        (lambda v: v.update(algorithm="none"), "is signed by 'none', expected ed25519"),
        (lambda v: v.update(format=2), "has a signature that cannot be read: format 2"),
        (lambda v: v.pop("signed"), "has a signature that cannot be read: the file: has no"),
        (lambda v: v["signed"].update(round=4.0), "has a signature that cannot be read: signed"),
        (lambda v: v["signed"].update(server_state="0" * 64), "is signed for server_state '000"),
        (lambda v: v["signed"].pop("client"), "is signed for client None, not '1'"),
        (lambda v: v["signed"].update(client="\x1b[2J" * 999), "is signed for client '\\x1b[2J"),
    ],
)
def test_a_signature_file_that_is_wrong_is_said_to_be(signed, change, says):
    rewrite(update_of(signed)[1], change)
    said = str(fault(signed.run, "1", 4))
    assert said.startswith(says)
    assert len(said) < 400
    assert "\x1b" not in said


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_signature_file_that_is_none_is_said_to_be(signed, content):
    update_of(signed)[1].write_bytes(content)
    assert str(fault(signed.run, "1", 4)).startswith("has a signature that cannot be read: ")


def test_where_there_is_no_file_nothing_is_signed(signed, tmp_path):
    path = update_of(signed)[1]
    elsewhere = path.rename(tmp_path / "elsewhere.sig")
    assert fault(signed.run, "1", 4) == "is not signed: 1.sig is missing"
    path.symlink_to(elsewhere)
    assert "is a symbolic link" in str(fault(signed.run, "1", 4))
    path.unlink()
    path.mkdir()
    assert str(fault(signed.run, "1", 4)).startswith("has a signature that cannot be read: ")


def test_a_run_without_members_asks_for_no_signature(tiny_run):
    sha256 = deliver(tiny_run, "0", tensors(1))
    assert signature_fault(tiny_run, tiny_run.round(1), "0", sha256) is None
    assert global_fault(tiny_run, tiny_run.round(0), "") is None
    check_server_state(tiny_run, tiny_run.round(0), None)
    check_no_partials(tiny_run)
    assert member_key(tiny_run, "0", None) is None
    assert coordinator_key(tiny_run, None) is None
    content = run_info().as_json()
    assert not {"members", "coordinator"} & content.keys()


# Global models


def test_the_coordinators_model_is_his(signed):
    for number in range(4):
        round_ = signed.run.round(number)
        check_global(signed.run, round_, digest(round_.global_model))


def test_a_model_that_was_replaced_is_refused(signed):
    run, latest = signed.run, signed.run.round(3)
    other = Metadata(Kind.GLOBAL, run.id, round=3, roles=ROLES, seed=0)
    sha256 = save(latest.global_model, tensors(99), other)
    with pytest.raises(BadInputError, match="is signed for sha256") as caught:
        check_global(run, latest, sha256)
    assert str(latest.global_model) in caught.value.message
    assert "ask the coordinator" in str(caught.value.hint)
    with pytest.raises(BadInputError, match="is signed for sha256"):
        global_models(run, "latest")


def test_an_older_model_with_its_signature_is_refused(signed):
    run, old, new = signed.run, signed.run.round(2), signed.run.round(3)
    shutil.copy(old.global_model, new.global_model)
    shutil.copy(old.global_signature, new.global_signature)
    assert global_fault(run, new, digest(new.global_model)) == "is signed for round 2, not 3"


def test_no_member_signs_a_model(signed):
    run, latest = signed.run, signed.run.round(3)
    sha256 = digest(latest.global_model)
    sign_global(run, latest, sha256, None, signed.members["1"])
    assert global_fault(run, latest, sha256) == "is not signed by the key of the coordinator"
    shutil.copy(update_of(signed)[1], latest.global_signature)
    assert global_fault(run, latest, sha256) == "is signed for kind 'update', not 'global'"
    latest.global_signature.unlink()
    assert global_fault(run, latest, sha256) == "is not signed: global.sig is missing"


def test_what_the_server_keeps_is_signed_with_the_model(signed):
    run, latest = signed.run, signed.run.round(3)
    sha256, state = digest(latest.global_model), "5" * 64
    check_server_state(run, latest, None)
    with pytest.raises(BadInputError, match="is signed for server_state None, not '555"):
        check_server_state(run, latest, state)
    sign_global(run, latest, sha256, state, signed.coordinator)
    check_global(run, latest, sha256)
    check_server_state(run, latest, state)
    for other in (None, "6" * 64):
        with pytest.raises(BadInputError, match="server_state"):
            check_server_state(run, latest, other)


# Keys and run.json


def test_another_key_in_run_json_is_another_run(signed, owned):
    path = signed.run.root / "run.json"
    values = json.loads(path.read_text())
    values["members"]["1"] = owned["2"].public
    path.write_text(json.dumps(values))
    with pytest.raises(RunFormatError, match="its id does not match its content"):
        Run.open(signed.run.root)
    values["id"] = run_id(values)
    path.write_text(json.dumps(values))
    other = Run.open(signed.run.root)
    assert str(fault(other, "1", 4)).startswith("is signed for run ")
    with pytest.raises(BadInputError, match="is signed for run "):
        check_global(other, other.round(0), digest(other.round(0).global_model))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["members"].update({"1": "ed25519:AAAA"}),
        lambda v: v["members"].update({"1": 7}),
        lambda v: v["members"].pop("1"),
        lambda v: v["members"].update({"9": v["coordinator"]}),
        lambda v: v.update(members=[]),
        lambda v: v.update(members=None),
        lambda v: v.update(coordinator=""),
        lambda v: v.update(coordinator=[v["coordinator"]]),
    ],
)
def test_run_json_with_keys_that_are_none_is_refused(signed, change):
    path = signed.run.root / "run.json"
    values = json.loads(path.read_text())
    change(values)
    values["id"] = run_id(values)
    path.write_text(json.dumps(values))
    with pytest.raises(RunFormatError, match=r"run\.json: does not describe a run: "):
        Run.open(signed.run.root)


def test_keys_are_a_part_of_the_runs_id(signed, owned):
    assert Run.open(signed.run.root).info == signed.run.info
    others = (
        replace(signed.run.info, coordinator=None),
        replace(signed.run.info, members={}),
        replace(signed.run.info, coordinator=owned["0"].public),
    )
    assert len({signed.run.id, *(info.id for info in others)}) == 4


def test_the_key_of_a_member_is_asked_for_and_is_the_right_one(signed):
    run, mine = signed.run, signed.members["1"]
    found = member_key(run, "1", mine.path)
    assert found is not None
    assert found.public == mine.public
    with pytest.raises(UsageError, match="updates of this run are signed") as caught:
        member_key(run, "1", None)
    assert caught.value.hint is not None
    assert "train-client --id 1 --data PATH" in caught.value.hint
    assert "--key FILE" in caught.value.hint
    for clients in (["2"], ["1", "2"], ["0", "1"]):
        with pytest.raises(UsageError, match=r"is not the key of client [02]: expected ed25519:"):
            member_keys(run, clients, mine.path)
    with pytest.raises(UsageError, match="is not the key of client 1"):
        member_key(run, "1", signed.coordinator.path)


def test_the_key_of_the_coordinator_is_asked_for_and_is_the_right_one(signed):
    run = signed.run
    found = coordinator_key(run, signed.coordinator.path)
    assert found is not None
    assert found.public == signed.coordinator.public
    with pytest.raises(UsageError, match="global models of this run are signed"):
        coordinator_key(run, None)
    with pytest.raises(UsageError, match="is not the coordinator's key"):
        coordinator_key(run, signed.members["1"].path)


def test_a_key_where_nothing_is_signed_is_refused(tiny_run, owned):
    with pytest.raises(UsageError, match="updates of this run are not signed"):
        member_key(tiny_run, "0", owned["0"].path)
    with pytest.raises(UsageError, match="global models of this run are not signed"):
        coordinator_key(tiny_run, owned["0"].path)


def test_a_key_in_the_run_directory_is_refused(signed):
    inside = signed.run.root / "rounds/../1.key"
    shutil.copy(signed.members["1"].path, inside)
    with pytest.raises(UsageError, match="is in the run directory, which others read"):
        member_key(signed.run, "1", inside)


def test_partial_means_have_no_place_among_members(signed):
    with pytest.raises(UsageError, match="carries no signatures"):
        check_no_partials(signed.run)


@given(
    st.builds(
        Statement,
        kind=st.sampled_from([kind.value for kind in Kind]),
        run=st.text(),
        round=st.integers(0, 2**63 - 1),
        sha256=st.text(),
        client=st.none() | st.text(),
        server_state=st.none() | st.text(),
    ),
    st.integers(0, 5),
    st.text(),
)
def test_two_statements_never_share_their_bytes(statement, which, text):
    """What is not the same statement is not the same message: no value can look like another."""
    name = ("kind", "run", "round", "sha256", "client", "server_state")[which]
    value: Any = len(text) if name == "round" else text
    other = replace(statement, **{name: value})
    try:
        messages = statement.message(), other.message()
    except UnicodeEncodeError:  # half a surrogate pair, which no file of ours is read with
        return
    assert (messages[0] == messages[1]) == (statement == other)
    assert messages[0] == b"fedcli-signature-1\n" + canonical_json(encode(statement))
