"""``status`` counts what ``aggregate`` would accept, and both name every update that is not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.runs import deliver, fedcli, tensors
from support.signing import Signed, keys, signed_run
from support.tampering import flip, poisoned, resave, send

from fedcli.errors import UpdateError
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.status import status

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """A signed run in which everybody has delivered for round 1."""
    made = signed_run(tmp_path / "fedrun", keys(tmp_path))
    for client in made.members:
        made.deliver(client, tensors(int(client) + 1))
    return made


def unsigned(run: Run, client: str) -> None:
    run.round(1).signature(client).unlink()


def truncated(run: Run, client: str) -> None:
    path = run.round(1).update(client)
    os.truncate(path, path.stat().st_size - 100)


def of_round_2(run: Run, client: str) -> None:
    resave(run.round(1).update(client), round=2)


def of_another_base(run: Run, client: str) -> None:
    resave(run.round(1).update(client), base="f" * 64)


def of_another_run(run: Run, client: str) -> None:
    resave(run.round(1).update(client), run="f" * 64)


def of_another_client(run: Run, client: str) -> None:
    resave(run.round(1).update(client), client="9")


def of_another_shape(run: Run, client: str) -> None:
    resave(run.round(1).update(client), tensors(5) | {"fc.bias": np.zeros(5, np.float32)})


def a_web_page(run: Run, client: str) -> None:
    run.round(1).update(client).write_text("<html>Login</html>")


def with_the_signature_of_another(run: Run, client: str) -> None:
    shutil.copy(
        run.round(1).signature("0" if client != "0" else "1"), run.round(1).signature(client)
    )


FAULTS: dict[Callable[[Run, str], None], tuple[str, str]] = {
    unsigned: ("is not signed: 1.sig is missing", "copy 1.sig to "),
    truncated: ("truncated or too long", "copy it again from where it was trained"),
    of_round_2: ("belongs to round 2, expected 1", "move it to "),
    of_another_base: ("was trained from another base model", "copy "),
    of_another_run: ("belongs to run", "train it again: "),
    of_another_client: ("belongs to client 9, expected 1", "move it to "),
    of_another_shape: ("tensor 'fc.bias': expected shape [4], found [5]", "train it again: "),
    a_web_page: ("not a safetensors file", "copy it again"),
    with_the_signature_of_another: ("is signed for client '0', not '1'", "copy it and 1.sig again"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.items())
def test_a_bad_update_does_not_count_and_the_hint_fits(
    signed: Signed, fault: Callable[[Run, str], None], said: tuple[str, str]
) -> None:
    run, (reason, hint) = signed.run, said
    fault(run, "1")
    found = status(run)
    assert (found.delivered, found.missing) == (("0", "2"), ())
    (refused,) = found.refused
    assert (refused.client, refused.path) == ("1", run.round(1).update("1"))
    assert reason in refused.reason
    assert (refused.hint or "").startswith(hint)
    with pytest.raises(UpdateError) as raised:
        aggregate(run, key=run.root.parent / "coordinator.key")
    assert raised.value.reason == refused.reason
    assert raised.value.hint == refused.hint
    assert f"aggregate --round 1 --exclude 1 --run {run.root}" in (refused.hint or "")


def test_all_bad_updates_are_named_at_once_each_with_what_to_do(
    signed: Signed, tmp_path: Path
) -> None:
    for client, fault in zip("012", (unsigned, truncated, of_round_2), strict=True):
        fault(signed.run, client)
    shown = fedcli("status", cwd=tmp_path)
    assert shown.status == 0
    assert "delivered   none" in shown.out
    assert "refused     0, 1, 2" in shown.out
    ended = fedcli("aggregate", "--key", "coordinator.key", cwd=tmp_path)
    assert ended.status == 4
    error, hint = ended.err.splitlines()
    assert error.startswith("error: 3 updates cannot be used: ")
    for client, reason in zip(
        "012", ("is not signed", "truncated", "belongs to round"), strict=True
    ):
        assert f"fedrun/rounds/0001/updates/{client}.safetensors: {reason}" in error
    assert "0: copy 0.sig to fedrun/rounds/0001/updates, or train it with the client's key" in hint
    assert "1: copy it again from where it was trained" in hint
    assert "2: move it to fedrun/rounds/0002/updates/2.safetensors; then train" in hint
    assert hint.endswith("or leave them out: fedcli aggregate --round 1 --exclude 0,1,2")
    values = fedcli("aggregate", "--key", "coordinator.key", "--json", cwd=tmp_path).json
    listed = fedcli("status", "--json", cwd=tmp_path).json["refused"]
    told = [{k: one[k] for k in ("client", "path", "reason", "hint")} for one in listed]
    named = values["error"]["updates"]
    assert told == [{k: one[k] for k in ("client", "path", "reason", "hint")} for one in named]


def test_bad_values_and_changed_bytes_are_named_with_bad_headers(tiny_run: Run) -> None:
    """A round that fails anyway is searched for all that is bad."""
    for client in "012":
        send(tiny_run, client, 1)
    truncated(tiny_run, "0")
    flip(tiny_run.round(1).update("1"))
    deliver(tiny_run, "2", poisoned("fc.bias", np.nan))
    with pytest.raises(UpdateError) as raised:
        aggregate(tiny_run)
    assert [error.client for error in raised.value.each] == ["0", "1", "2"]
    message = raised.value.message
    assert "truncated" in message
    assert "was changed after the client wrote it" in message
    assert "tensor 'fc.bias': 1 of 4 values are NaN or infinite" in message


def test_what_was_left_out_is_named_too_if_too_few_remain(tiny_run: Run) -> None:
    for client in "012":
        send(tiny_run, client, 1)
    truncated(tiny_run, "0")
    deliver(tiny_run, "2", poisoned("fc.bias", np.nan))
    with pytest.raises(UpdateError) as raised:
        aggregate(tiny_run, min_clients=2)
    assert [error.client for error in raised.value.each] == ["0", "2"]


def test_bad_updates_are_named_while_others_are_missing(signed: Signed, tmp_path: Path) -> None:
    truncated(signed.run, "1")
    signed.run.round(1).update("2").unlink()
    ended = fedcli("aggregate", "--key", "coordinator.key", cwd=tmp_path)
    assert ended.status == 3
    error, hint = ended.err.splitlines()
    assert "missing: 2; fedrun/rounds/0001/updates/1.safetensors: truncated" in error
    assert "fedcli train-client --id 2 --data PATH" in hint
    assert "copy it again from where it was trained" in hint


def test_a_conflict_copy_and_a_stranger_do_not_count(delivered: Run) -> None:
    updates = delivered.round(1).updates
    for name in ("0.sync-conflict-20260101-120000-ABCDEFG", "stranger"):
        shutil.copy(updates / "0.safetensors", updates / f"{name}.safetensors")
    found = status(delivered)
    assert found.delivered == ("0", "1", "2")
    assert {one.reason for one in found.refused} == {"not a client of this run"}
    assert found.next is not None
    assert found.next.startswith("fedcli aggregate")


def test_more_than_twenty_are_counted(tiny_run: Run) -> None:
    errors = [
        UpdateError.mendable(
            "is bad", tiny_run.round(1).update(str(n)), str(n), mend="mend it", without=",".join
        )
        for n in range(25)
    ]
    one = UpdateError.together([UpdateError.together(errors[:10]), *errors[10:]])
    assert one.message.startswith("25 updates cannot be used: ")
    assert one.message.endswith("; and 5 more")
    assert len(one.each) == len(one.as_json()["updates"]) == 25
    assert one.hint == (
        f"{', '.join(map(str, range(20)))}: mend it;"
        f" or leave them out: {','.join(map(str, range(25)))}"
    )
