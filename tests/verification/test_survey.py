"""``verify``: a sound run passes, and whatever is changed in it is named."""

import errno
import os
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import controls_of, planned
from support.runs import ROLES, deliver, fedcli, run_info, tensors
from support.signing import keys, signed_run
from support.tampering import flip, resave, rewrite, send

from fedcli.cli.render.verify import TITLES
from fedcli.datasets.shards import ShardFormat, write_shard
from fedcli.errors import NotReadyError, RunFormatError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.partial import partial
from fedcli.steps.verify import VerifyResult, verify
from fedcli.storage.atomic import write_json
from fedcli.verification.findings import Problem

pytestmark = pytest.mark.usefixtures("unsynced")
CLIENTS = ("0", "1", "2")


def played(root: Path, rounds: int = 2, **options: Any) -> Run:
    """A run of rounds that were aggregated, with telemetry beside the updates."""
    run = planned(root, CLIENTS)
    for number in range(1, rounds + 1):
        for client in CLIENTS:
            send(run, client, number)
        aggregate(run, options={"strategy": "fedavgm", **options})
    return run


def told(result: VerifyResult) -> dict[str, list[tuple[str, str]]]:
    """What was found, by file."""
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in result.findings:
        found.setdefault(finding.file, []).append((finding.problem.value, finding.message))
    return found


def wrong(run: Run, **options: Any) -> dict[str, str]:
    """The files that are not what they were, and what is first said of each."""
    result = verify(run.root, **options)
    found = {f.file: f.message for f in reversed(result.findings) if f.wrong}
    assert result.sound == (not found)
    return found


def test_a_run_is_sound_and_every_file_is_counted(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    result = verify(run.root)
    assert result.sound
    assert result.findings == ()
    assert result.rounds == (0, 1, 2)
    files = [path for path in run.root.rglob("*") if path.is_file()]
    assert sum(part.files for part in result.parts) == len(files)
    assert sum(part.sound for part in result.parts) == len(files)


def test_every_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = played(tmp_path / "run")
    read: dict[int, int] = {}
    preadv = os.preadv

    def counting(descriptor: int, buffers: Any, offset: int) -> int:
        count = preadv(descriptor, buffers, offset)
        inode = os.fstat(descriptor).st_ino
        read[inode] = read.get(inode, 0) + count
        return count

    monkeypatch.setattr(os, "preadv", counting)
    assert verify(run.root).sound
    for path in (path for path in run.root.rglob("*") if path.is_file()):
        length_of_header = 8 if path.suffix == ".safetensors" else 0
        assert read[path.stat().st_ino] == path.stat().st_size + length_of_header, path


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", run_info(("0",)))
    values = {"weight": np.zeros(8_000_000, np.float32)}
    save(run.round(0).global_model, values, Metadata(Kind.GLOBAL, run.id, round=0, seed=0))
    deliver(run, "0", values, roles={})
    assert verify(run.root).sound  # and everything is imported
    tracemalloc.start()
    assert verify(run.root).sound
    assert tracemalloc.get_traced_memory()[1] < 2_000_000  # of 32 MB each
    tracemalloc.stop()


# --- one thing changed ---------------------------------------------------------------------------

UPDATE, MODEL = "rounds/0001/updates/1.safetensors", "rounds/0001/global.safetensors"
LAST, MANIFEST = "rounds/0002/global.safetensors", "rounds/0001/aggregate.json"


def swap(run: Run) -> None:
    one, other = (run.round(1).update(client) for client in "01")
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def accept(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["accepted"][1].__setitem__(name, value)


CHANGES: dict[str, tuple[Callable[[Run], object], dict[str, str]]] = {
    "a bit of an update": (
        lambda run: flip(run.root / UPDATE),
        {UPDATE: "does not have the SHA-256 that rounds/0001/global.safetensors names"},
    ),
    "a bit of an update's name": (lambda run: flip(run.root / UPDATE, 12), {UPDATE: ""}),
    "a bit of a global model": (
        lambda run: flip(run.root / MODEL),
        {MODEL: "does not have the SHA-256 that"},
    ),
    "a bit of the last global model": (
        lambda run: flip(run.root / LAST),
        {LAST: "does not have the SHA-256 that rounds/0002/aggregate.json names"},
    ),
    "a bit of the starting model": (
        lambda run: flip(run.round(0).global_model),
        {"rounds/0000/global.safetensors": "does not have the SHA-256 that"},
    ),
    "a bit of the server's state": (
        lambda run: flip(run.round(1).server_state),
        {"rounds/0001/server_state.safetensors": "SHA-256 that rounds/0001/aggregate.json"},
    ),
    "an update cut short": (lambda run: os.truncate(run.root / UPDATE, 900), {UPDATE: "truncated"}),
    "updates of two clients swapped": (
        swap,
        {
            UPDATE: "client: expected 1, found 0",
            "rounds/0001/updates/0.safetensors": "client: expected 0, found 1",
        },
    ),
    "an update of another round": (
        lambda run: shutil.copy(run.round(2).update("1"), run.root / UPDATE),
        {UPDATE: "round: expected 1, found 2"},
    ),
    "an update of another run": (
        lambda run: resave(run.root / UPDATE, run="0" * 64),
        {UPDATE: f"found {'0' * 64}"},
    ),
    "an update of another shape": (
        lambda run: resave(run.root / UPDATE, tensors(5) | {"fc.bias": np.zeros(5, np.float32)}),
        {UPDATE: "tensor 'fc.bias': expected shape [4], found [5]"},
    ),
    "an update of another dtype": (
        lambda run: resave(run.root / UPDATE, tensors(5) | {"fc.bias": np.zeros(4)}),
        {UPDATE: "tensor 'fc.bias': expected dtype F32, found F64"},
    ),
    "an update with other roles": (
        lambda run: resave(run.root / UPDATE, roles={"bn.running_mean": Role.BUFFER}),
        {UPDATE: "has tensor roles"},
    ),
    "a global model of other tensors": (
        lambda run: resave(run.root / MODEL, tensors(5) | {"more": np.zeros(4)}),
        {MODEL: "has a tensor 'more' that the base model does not have"},
    ),
    "a manifest's SHA-256 of an update": (
        lambda run: rewrite(run.root / MANIFEST, accept("sha256", "1" * 64)),
        {MANIFEST: "names another SHA-256 for rounds/0001/updates/1.safetensors"},
    ),
    "a manifest's SHA-256 of the model": (
        lambda run: rewrite(run.root / MANIFEST, lambda m: m.update({"global": "1" * 64})),
        {MANIFEST: "names another SHA-256 for rounds/0001/global.safetensors"},
    ),
    "a manifest's SHA-256 of the base": (
        lambda run: rewrite(run.root / MANIFEST, lambda m: m.update(base="1" * 64)),
        {MANIFEST: "names another SHA-256 for rounds/0000/global.safetensors"},
    ),
    "a manifest's client": (
        lambda run: rewrite(run.root / MANIFEST, lambda m: m["accepted"].pop(1)),
        {MANIFEST: "accepted: 1 is named in rounds/0001/global.safetensors, but not in"},
    ),
    "a manifest's number of examples": (
        lambda run: rewrite(run.root / MANIFEST, accept("num_examples", 1)),
        {MANIFEST: "num_examples: expected 33 in all, found 23"},
    ),
    "a manifest's number of bytes": (
        lambda run: rewrite(run.root / MANIFEST, accept("bytes", 1)),
        {MANIFEST: "says that rounds/0001/updates/1.safetensors has 1 bytes"},
    ),
    "a manifest's round": (
        lambda run: rewrite(run.root / MANIFEST, lambda m: m.update(round=7)),
        {MANIFEST: "round: expected 1, found 7"},
    ),
    "a manifest's client to a path": (
        lambda run: rewrite(run.root / MANIFEST, accept("client", "../../../x")),
        {MANIFEST: "accepted[1].client: expected a client id, found '../../../x'"},
    ),
    "a manifest to nonsense": (
        lambda run: (run.root / MANIFEST).write_text("{"),
        {MANIFEST: "not JSON"},
    ),
    "what telemetry says of an update": (
        lambda run: rewrite(run.round(1).telemetry("1"), lambda m: m.update(sha256="1" * 64)),
        {"rounds/0001/updates/1.json": f"names another SHA-256 for {UPDATE}"},
    ),
    "the seed in run.json": (
        lambda run: rewrite(run.root / "run.json", lambda info: info.update(seed=8)),
        {"run.json": "was changed: its id does not match its content"},
    ),
    "an evaluation to nonsense": (
        lambda run: run.round(1).evaluation.write_text("[]"),
        {"rounds/0001/evaluation.json": "expected a JSON object"},
    ),
    "a global model deleted": (lambda run: (run.root / MODEL).unlink(), {MODEL: "is missing"}),
    "a manifest deleted": (
        lambda run: (run.root / MANIFEST).unlink(),
        {MANIFEST: "is missing; it says what the round's global model was made from"},
    ),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_what_was_changed_is_named(
    tmp_path: Path, change: Callable[[Run], object], expected: dict[str, str]
) -> None:
    run = played(tmp_path / "run")
    change(run)
    found = wrong(run)
    assert found.keys() == expected.keys()
    for file, message in expected.items():
        assert message in found[file]


def test_a_finding_tells_what_was_expected_and_what_was_found(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    before = digest(run.root / UPDATE)
    flip(run.root / UPDATE)
    (finding,) = verify(run.root).findings
    assert (finding.expected, finding.found) == (before, digest(run.root / UPDATE))


def test_any_single_bit_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    rng = np.random.default_rng(0)
    for name in (UPDATE, MODEL, LAST, "rounds/0002/server_state.safetensors"):
        whole = (run.root / name).read_bytes()
        for offset in [*range(12), *rng.integers(len(whole), size=20)]:
            flip(run.root / name, int(offset))
            assert name in wrong(run), offset
            (run.root / name).write_bytes(whole)
    assert wrong(run) == {}


def test_an_update_from_a_foreign_base_is_named(tmp_path: Path) -> None:
    run = played(tmp_path / "run", 1)
    send(run, "0", 2)
    send(run, "1", 2, base="f" * 64)
    found = wrong(run)
    assert list(found) == ["rounds/0002/updates/1.safetensors"]
    assert "names another SHA-256 for rounds/0001/global.safetensors" in str(found)


# --- what may be missing, and what may be there --------------------------------------------------


def test_deleted_updates_and_states_are_named_and_no_fault(tmp_path: Path) -> None:
    run = played(tmp_path / "run", 3)
    run.round(1).update("1").unlink()
    run.round(1).server_state.unlink()
    result = verify(run.root)
    assert result.sound
    assert [f.problem.value for f in result.findings] == ["missing", "missing"]
    assert [f.file for f in result.findings] == [UPDATE, "rounds/0001/server_state.safetensors"]
    missing = {part.what: part.missing for part in result.parts if part.missing}
    assert missing == {"updates": 1, "server states": 1}


def test_what_is_said_of_a_deleted_update_still_has_to_agree(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    run.round(1).update("1").unlink()
    rewrite(run.root / MANIFEST, accept("sha256", "1" * 64))
    assert list(wrong(run)) == [MANIFEST]


def test_the_last_state_of_the_server_is_needed_to_go_on(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    run.round(2).server_state.unlink()
    (finding,) = verify(run.root).findings
    assert "the next round cannot start without it" in finding.message


def test_foreign_files_are_mentioned_and_no_fault(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    (run.root / "notes.txt").write_text("mine")
    (run.root / "plots" / "deep").mkdir(parents=True)
    (run.root / "plots" / "deep" / "a.png").write_text("mine")
    (run.root / "plots" / "b.png").write_text("mine")
    (run.root / "rounds" / "0001" / "evil\x1b[31m").write_text("mine")
    (run.root / "rounds" / "0001" / ".global.safetensors.host.1.tmp").write_text("half")
    (run.root / "outside").symlink_to(tmp_path)
    result = verify(run.root)
    assert result.sound
    assert {f.problem.value for f in result.findings} == {"foreign"}
    files = {"notes.txt", "outside", "plots", "rounds/0001/evil\x1b[31m"}
    assert {f.file for f in result.findings} == files


def test_a_link_in_place_of_an_update_is_not_followed(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere.safetensors"
    (run.root / UPDATE).rename(elsewhere)
    (run.root / UPDATE).symlink_to(elsewhere)
    assert "symbolic link" in wrong(run)[UPDATE]


def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    for path in (run.root / UPDATE, run.root / MANIFEST):
        path.unlink()
        os.mkfifo(path)
    assert wrong(run).keys() >= {UPDATE, MANIFEST}


def test_what_an_aggregation_left_that_was_killed_is_no_fault(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    run.round(2).global_model.unlink()
    result = verify(run.root)
    assert result.sound
    files = {"rounds/0002/aggregate.json", "rounds/0002/server_state.safetensors"}
    assert {f.file for f in result.findings} == files


def test_faults_of_a_rejected_update_are_no_faults_of_the_run(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", CLIENTS)
    for client in CLIENTS:
        send(run, client, 1)
    resave(run.round(1).update("2"), tensors(3) | {"fc.bias": np.full(4, np.nan, np.float32)})
    result = aggregate(run, min_clients=2)
    assert [absence.client for absence in result.rejected] == ["2"]
    found = verify(run.root)
    assert found.sound
    assert {f.file for f in found.findings} == {"rounds/0001/updates/2.safetensors"}


def test_scores_of_a_model_since_replaced_are_mentioned(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    score = {"model": "global", "data": "test", "examples": 1, "accuracy": 1.0, "client": None}
    there = {**score, "sha256": digest(run.round(2).global_model)}
    values = {"format": 1, "round": 2, "results": [there]}
    write_json(run.round(2).evaluation, values)
    assert verify(run.root).findings == ()
    values["results"] = [there, {**score, "sha256": "1" * 64}]
    write_json(run.round(2).evaluation, values)
    result = verify(run.root)
    assert result.sound
    assert "no longer exists" in result.findings[0].message


def test_a_gap_in_the_rounds_is_one_finding_however_wide(tmp_path: Path) -> None:
    run = played(tmp_path / "run", 1)
    far = run.root / "rounds" / "999999999"
    far.mkdir()
    shutil.copy(run.round(1).global_model, far)
    found = wrong(run)
    assert "and those of the 999999996 rounds after it" in found[LAST]
    assert "round: expected 999999999, found 1" in found["rounds/999999999/global.safetensors"]


# --- kinds of runs -------------------------------------------------------------------------------


def test_clients_that_were_sampled_are_drawn_again(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", CLIENTS, clients_per_round=2)
    for client in CLIENTS:
        send(run, client, 1)
    aggregate(run)
    assert verify(run.root).sound
    rewrite(run.root / MANIFEST, lambda manifest: manifest.update(sampled=["0", "0"]))
    assert "sampled: expected what the run's seed draws" in wrong(run)[MANIFEST]


def test_late_updates_are_of_the_round_that_they_were_trained_for(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", CLIENTS)
    send(run, "0", 1)
    aggregate(run, options={"strategy": "fedbuff", "buffer": 1})
    send(run, "1", 1)
    send(run, "2", 2)
    result = aggregate(run, options={"strategy": "fedbuff", "buffer": 2})
    assert {(c.client, c.round) for c in result.clients} == {("1", 1), ("2", 2)}
    assert verify(run.root).findings == ()
    flip(run.root / UPDATE)
    assert list(wrong(run)) == [UPDATE]
    assert list(wrong(run, round_number=2)) == [UPDATE]


def test_partial_means_are_checked_where_they_are(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", CLIENTS)
    for client in CLIENTS:
        send(run, client, 1)
    inside, outside = run.root / "north.safetensors", tmp_path / "south.safetensors"
    partial(run, ["0", "1"], inside)
    partial(run, ["2"], outside)
    aggregate(run, members=[str(inside), str(outside)])
    result = verify(run.root)
    assert result.sound
    assert [(f.file, f.problem.value) for f in result.findings] == [
        ("south.safetensors", "missing")
    ]
    flip(inside)
    assert list(wrong(run)) == ["north.safetensors"]
    rewrite(run.root / MANIFEST, lambda m: m["partials"][1].update(sha256="1" * 64))
    assert "the partial mean south" in wrong(run)[MANIFEST]


def test_withheld_layers_and_controls_belong_to_an_update(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", CLIENTS)
    for client in CLIENTS:
        values = tensors(int(client))
        values = {name: v for name, v in values.items() if not name.startswith("fc")}
        values |= controls_of(values, ROLES, int(client))
        roles = ROLES | dict.fromkeys((n for n in values if "/" in n), Role.CONTROL)
        training = {"local_layers": ["fc"], "feddyn_alpha": 0.1}
        deliver(run, client, values, roles=roles, training=training)
    aggregate(run, options={"strategy": "scaffold"})
    result = verify(run.root)
    assert result.sound
    # layers that stay with the client are in a state, which is not here
    assert {f.file for f in result.findings} == {
        f"rounds/0001/client_state/{client}.safetensors" for client in CLIENTS
    }
    resave(run.round(1).update("1"), training={})
    assert "is missing" in wrong(run)[UPDATE]


def state_of(run: Run, number: int, client: str, **training: Any) -> str:
    """Write an update and the state that goes with it; return the state's SHA-256."""
    training = {"algorithm": "ditto", **training}
    send(run, client, number, training=training)
    with Checkpoint(run.round(number).update(client)) as update:
        metadata = update.metadata
    values = {f"personal/{name}": v for name, v in tensors(int(client) + number).items()}
    described = replace(metadata, kind=Kind.CLIENT_STATE, num_examples=None, roles={})
    return save(run.round(number).client_state(client), values, described)


def test_states_of_clients_are_a_chain_too(tmp_path: Path) -> None:
    run = planned(tmp_path / "run", ("0",))
    first = state_of(run, 1, "0")
    aggregate(run)
    state_of(run, 2, "0", state=first)
    assert verify(run.root).findings == ()
    path = run.round(1).client_state("0")
    whole = path.read_bytes()
    flip(path)
    name = "rounds/0001/client_state/0.safetensors"
    assert "that rounds/0002/updates/0.safetensors started from" in wrong(run)[name]
    path.write_bytes(whole)
    resave(path, seed=7)
    assert "does not go with rounds/0001/updates/0.safetensors" in wrong(run)[name]
    path.unlink()
    assert [f.problem.value for f in verify(run.root).findings] == ["missing"]


def test_signatures_are_checked_against_the_members(tmp_path: Path) -> None:
    signed = signed_run(tmp_path / "run", keys(tmp_path / "keys"))
    run = signed.run
    for client in CLIENTS:
        signed.deliver(client, tensors(int(client)))
    assert verify(run.root).findings == ()
    path = run.round(1).signature("1")
    whole = path.read_bytes()
    shutil.copy(run.round(1).signature("0"), path)
    name = path.relative_to(run.root).as_posix()
    assert f"{UPDATE} is signed for client '0', not '1'" in wrong(run)[name]
    path.write_bytes(whole)
    signed.deliver("1", tensors(9))
    path.write_bytes(whole)
    assert "is signed for sha256" in wrong(run)[name]
    path.unlink()
    assert "is not signed" in wrong(run)[name]
    run.round(0).global_signature.unlink()
    assert "is not signed" in wrong(run)["rounds/0000/" + run.round(0).global_signature.name]


# --- data ----------------------------------------------------------------------------------------


def with_data(root: Path) -> Run:
    """A run as ``partition`` makes it, of a handful of pictures."""
    info = run_info(("0", "1"))
    origin = {"step": "partition", "scheme": "iid", "parameters": {"clients": 2}}
    run = Run.create(root, replace(info, origin=origin))
    save(run.round(0).global_model, tensors(0), Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES))
    form = ShardFormat(run.id, info.dataset.shape, np.dtype("u1"))
    labels = np.array([0, 1, 1, 3])
    shards = {
        path.name: write_shard(
            path, client, labels, lambda i: np.full((len(i), 3, 8, 8), 7, "u1"), form, Silence()
        ).__dict__
        for path, client in (
            (run.client_shard("0"), "0"),
            (run.client_shard("1"), "1"),
            (run.test_shard, None),
        )
    }
    values = {
        "format": 1,
        "run": run.id,
        "seed": 0,
        "scheme": "iid",
        "parameters": {"clients": 2},
        "classes": list(info.dataset.classes),
        "label_counts": {"0": [1, 2, 0, 1], "1": [1, 2, 0, 1]},
        "validation_label_counts": {},
        "test_label_counts": [1, 2, 0, 1],
        "shards": shards,
    }
    write_json(run.partition_file, values)
    return run


SHARD = "data/client-1.safetensors"
DATA_CHANGES: dict[str, tuple[Callable[[Run], object], dict[str, str]]] = {
    "a pixel": (
        lambda run: flip(run.root / SHARD),
        {SHARD: "does not have the SHA-256 that data/partition.json names"},
    ),
    "a label": (
        lambda run: flip(run.root / SHARD, -4 * 192 - 32),  # of 0
        {SHARD: "label counts: expected (1, 2, 0, 1), found (0, 3, 0, 1)"},
    ),
    "the client": (
        lambda run: shutil.copy(run.client_shard("0"), run.root / SHARD),
        {SHARD: "client: expected 1, found 0"},
    ),
    "the counts": (
        lambda run: rewrite(
            run.partition_file, lambda p: p["label_counts"].update({"1": [4, 0, 0, 0]})
        ),
        {SHARD: "label counts: expected (4, 0, 0, 0)"},
    ),
    "the scheme": (
        lambda run: rewrite(run.partition_file, lambda p: p.update(scheme="dirichlet")),
        {"data/partition.json": "scheme: expected iid, found dirichlet"},
    ),
    "a path": (
        lambda run: rewrite(
            run.partition_file, lambda p: p["shards"].update({"../x": p["shards"].popitem()[1]})
        ),
        {"data/partition.json": "shards: expected the name of a shard, found '../x'"},
    ),
}


@pytest.mark.parametrize(("change", "expected"), DATA_CHANGES.values(), ids=DATA_CHANGES)
def test_what_was_changed_in_the_data_is_named(
    tmp_path: Path, change: Callable[[Run], object], expected: dict[str, str]
) -> None:
    run = with_data(tmp_path / "run")
    assert verify(run.root).findings == ()
    change(run)
    found = wrong(run)
    assert found.keys() == expected.keys()
    assert all(message in found[file] for file, message in expected.items())


def test_shards_may_be_kept_elsewhere(tmp_path: Path) -> None:
    run = with_data(tmp_path / "run")
    run.client_shard("1").unlink()
    result = verify(run.root)
    assert result.sound
    assert [(f.file, f.problem.value) for f in result.findings] == [(SHARD, "missing")]
    shutil.rmtree(run.root / "data")
    result = verify(run.root)
    assert result.sound
    assert [f.file for f in result.findings] == ["data/partition.json"]


def test_a_file_that_may_not_be_read_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = played(tmp_path / "run")
    opened = os.open

    def refused(path: Any, *rest: Any, **named: Any) -> int:
        if str(path).endswith((UPDATE, MANIFEST)):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *rest, **named)

    monkeypatch.setattr(os, "open", refused)
    found = wrong(run)
    assert found[UPDATE] == found[MANIFEST] == "cannot read: Permission denied"


def test_every_problem_has_a_title() -> None:
    assert set(TITLES) == set(Problem)


# --- one round, no run, and the command ----------------------------------------------------------


def test_one_round_is_checked_with_its_base(tmp_path: Path) -> None:
    run = played(tmp_path / "run", 3)
    flip(run.root / UPDATE)
    assert wrong(run, round_number=3) == {}
    assert list(wrong(run, round_number=1)) == [UPDATE]
    flip(run.round(2).global_model)
    assert list(wrong(run, round_number=3)) == ["rounds/0002/global.safetensors"]
    assert verify(run.root, round_number=0).sound
    with pytest.raises(NotReadyError, match="there is no round 9"):
        verify(run.root, round_number=9)


def test_where_there_is_no_run_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunFormatError, match="not a run directory"):
        verify(tmp_path)


def test_nothing_is_written(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*")}
    verify(run.root)
    assert {path: path.stat().st_mtime_ns for path in run.root.rglob("*")} == before


def test_the_command_says_it_in_a_table_and_by_its_status(tmp_path: Path) -> None:
    run = played(tmp_path / "fedrun", 3)
    sound = fedcli("verify", cwd=tmp_path)
    assert (sound.status, sound.err) == (0, "")
    assert sound.out.endswith("fedrun: sound\n")
    for client in CLIENTS:
        run.round(1).update(client).unlink()
    (run.root / "evil\x1b[31m").write_text("")
    flip(run.round(2).update("1"))
    changed = fedcli("verify", cwd=tmp_path)
    assert changed.status == 4
    assert max(map(len, changed.out.splitlines())) <= 80
    assert "\x1b" not in changed.out
    name = "rounds/0002/updates/1.safetensors"
    assert changed.err == f"error: fedrun: 1 file is not what the run was made with: {name}\n"
    assert "rounds/0001/updates/0.safetensors, 1.safetensors" in changed.out
    values = fedcli("verify", "--json", cwd=tmp_path)
    assert values.status == 4
    assert values.json["error"]["message"] in changed.err
    problems = [(finding["problem"], finding["file"]) for finding in values.json["findings"]]
    assert problems[0] == ("changed", name)
    assert len(problems) == 5
    assert values.json["sound"] is False
