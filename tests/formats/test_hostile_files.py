"""What strangers put into a shared directory is refused in one line that names it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import enormous, fuzzing
from support.pages import TESTS
from support.runs import ROLES, deliver, fedcli, run_info, tensors

from fedcli.cli import execute
from fedcli.cli.render.output import escaped, print_json
from fedcli.datasets.shards import read_shard
from fedcli.errors import BadInputError, FedcliError, NotReadyError, UsageError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.client_ids import check_client_id, is_client_id
from fedcli.formats.metadata import Kind, Metadata
from fedcli.plan.layer_patterns import matching
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.steps.report import report
from fedcli.steps.status import status
from fedcli.storage.atomic import read_json, write_json
from fedcli.storage.strict_json import parse_json
from fedcli.storage.untrusted import InputFile
from fedcli.text import brief, printable

pytestmark = pytest.mark.usefixtures("unsynced")

# --- memory and time ---------------------------------------------------------------------------

TAKEN = {
    "many-tensors.safetensors",
    "many-updates.safetensors",
    "many-roles.safetensors",
    "deep-metadata.safetensors",
}


def test_no_file_takes_more_memory_than_a_small_machine_has(tmp_path: Path) -> None:
    paths = enormous.write(tmp_path)
    program = [sys.executable, "-m", "support.enormous"]
    done = subprocess.run(
        [*program, *map(str, paths)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["name"] for result in results] == list(enormous.FILES)
    for result in results:
        assert (result["said"] == "taken") == (result["name"] in TAKEN), result
        assert result["said"] == "taken" or result["name"] in result["said"]
        assert result["said"].isprintable()
        assert result["memory"] < 200_000_000, result


def test_a_file_with_a_hole_of_a_terabyte(tmp_path: Path) -> None:
    values = {"x": np.zeros((3, 3, 8, 8), np.uint8), "y": np.zeros(3, np.int64)}
    save(tmp_path / "a", values, Metadata(Kind.SHARD, "f"))
    header = {"x": {"dtype": "U8", "shape": [2**40], "data_offsets": [8 * 2**40, 9 * 2**40]}}
    header |= {"y": {"dtype": "I64", "shape": [2**40], "data_offsets": [0, 8 * 2**40]}}
    own = {"fedcli": Metadata(Kind.SHARD, "f").encode()}
    text = json.dumps({"__metadata__": own, **header}).encode()
    path = tmp_path / "hole"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        try:
            file.truncate(8 + len(text) + 9 * 2**40)
        except OSError:
            pytest.skip("no file system for so large a file")
    with pytest.raises(FedcliError, match="hole"):
        read_shard(path, Run.open(fuzzing.CORPUS))


def test_patterns_of_a_stranger_take_no_time() -> None:
    names = [f"layer{i}.{j}.bn{k}.weight" for i in range(9) for j in range(9) for k in range(9)]
    bombs = ["*" + "a*" * 240, "*" + "[!l]*" * 80, "?*" * 240, "[" * 400, "*" * 400 + "b"]
    assert matching([f"{bomb}{i}" for bomb in bombs for i in range(10)], names) == frozenset()
    layers = [name.removesuffix(".weight") for name in names]
    assert matching(layers[1:] * 100, names) == frozenset(names[1:])


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["a"], {"a.x", "a.b.x"}),
        (["a.b"], {"a.b.x"}),
        (["a.b.x"], {"a.b.x"}),
        (["a*"], {"a.x", "a.b.x", "ab.x"}),
        (["?b"], {"ab.x"}),
        (["*", "!a"], {"ab.x"}),
        (["a", "!a.[b]"], {"a.x"}),
        (["b", "x", "a.", ""], set()),
    ],
)
def test_patterns_name_tensors_and_modules(patterns: list[str], found: set[str]) -> None:
    assert matching(patterns, ["a.x", "a.b.x", "ab.x"]) == found


# --- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": {"b": 1, "b": 1}}', "twice"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "no number"),
        ("[1e400]", "too large"),
        (f"[{10**400}]", "more than 64 bits"),
        (f"[{2**63}]", "more than 64 bits"),
        ("[" * 101 + "]" * 101, "levels deep"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested"),
        ("[" * 100_000, "nested"),
        ('["\\ud800"]', "half a surrogate pair"),
        ('{"\\udfff": 1}', "half a surrogate pair"),
        (b'["\xed\xa0\x80"]', "not UTF-8: byte 2"),
        (b"\xff\xfe[\x001\x00]\x00", "not UTF-8"),
        ('["\x00"]', "not JSON"),
        ("[1] [2]", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_what_is_no_json_that_we_read(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_what_is_at_the_limits_is_read() -> None:
    assert parse_json("[" * 100 + "]" * 100)
    assert parse_json(f"[{2**63 - 1}, {-(2**63)}, 1e308, 5e-324, -0.0]")[1] == -(2**63)
    assert parse_json('["\\ud83d\\ude00", "\U0001f600"]') == ["\U0001f600"] * 2


@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.text()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_what_python_reads(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


def test_a_json_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="1099511627776 bytes, expected at most"):
        read_json(tmp_path / "a")


# --- what can be shown -------------------------------------------------------------------------


@given(text=st.text(st.characters(), max_size=50))
def test_any_text_can_be_shown(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert "\n" not in shown
    shown.encode()
    assert (shown == text) == text.isprintable()
    assert printable(shown) == shown
    assert len(brief(text)) <= 80
    assert FedcliError(text, hint=text).message == FedcliError(text, hint=text).hint == shown


def test_a_message_is_not_longer_than_a_path() -> None:
    assert len(FedcliError("x" * 10**6).message) == 4000
    assert len(brief(["y" * 10**6] * 100)) <= 80


@given(text=st.text(st.characters(), max_size=20))
def test_json_on_a_terminal_has_no_control_characters(text: str) -> None:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print_json({"name": text, text: [text]})
    printed = out.getvalue().removesuffix("\n")
    assert printed.isprintable()
    assert json.loads(printed)["name"] == text


def test_results_are_shown_without_control_characters() -> None:
    shown = escaped({"\x1b": (Path("a\x9b"), ["\u202e"], Kind.SHARD, 1.5, None)})
    assert shown == {"\\x1b": (Path("a\\x9b"), ["\\u202e"], Kind.SHARD, 1.5, None)}
    info = escaped(run_info(("a",)))
    assert info == run_info(("a",))


ESCAPES = "\x1b[2J\x9b31m\u202e\x7f"


def test_names_of_strangers_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    for command in ("status", "aggregate", "report"):
        for words in ([], ["--json"]):
            done = fedcli(command, *words, "--run", run.root, cwd=tmp_path)
            for line in (done.out + done.err).splitlines():
                assert line.isprintable(), (command, words, line)


def hostile_run(tmp_path: Path) -> Run:
    """A run with escapes in all names that it may have."""
    info = run_info()
    dataset = {**vars(info.dataset), "name": f"d{ESCAPES}", "classes": (f"c{ESCAPES}", "b")}
    values = {**vars(info), "dataset": type(info.dataset)(**dataset), "origin": {ESCAPES: ESCAPES}}
    run = Run.create(tmp_path / "run", type(info)(**values))
    base = Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES)
    save(run.round(0).global_model, tensors(0), base)
    for client in ("0", "1"):
        deliver(run, client, tensors(1), training={"device": ESCAPES})
    deliver(run, "2", {**tensors(1), f"t{ESCAPES}": np.zeros(1, np.float32)})
    telemetry = {"format": 1, "sha256": digest(run.round(1).update("0")), "device": ESCAPES}
    write_json(run.round(1).telemetry("0"), telemetry)
    (run.round(1).updates / f"{ESCAPES}.safetensors").write_bytes(b"")
    (run.root / "rounds" / ESCAPES).mkdir()
    return run


# --- what is no file ---------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)  # the path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "directory": Path.mkdir,
    "pipe": fifo,
    "socket": listening,
    "link out": link("/etc/passwd"),
    "link to a device": link("/dev/zero"),
    "link to itself": link("0.safetensors"),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "0.safetensors"
    make(path)
    for read in (Checkpoint, InputFile, read_json):
        with pytest.raises(BadInputError, match=r"0\.safetensors: (expected a file|is a symbolic)"):
            read(path)


def test_a_link_is_followed_only_to_what_a_person_named(tmp_path: Path) -> None:
    partial = Metadata(Kind.PARTIAL, "f", round=1)
    sha256 = save(tmp_path / "there", {}, partial)
    (tmp_path / "here").symlink_to("there")
    with Checkpoint(tmp_path / "here", Kind.PARTIAL) as found:
        assert found.digest() == sha256 == digest(tmp_path / "here")
    with pytest.raises(BadInputError, match="here: is a symbolic link"):
        Checkpoint(tmp_path / "here")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInputError, match="loop: is a symbolic link"):
        digest(tmp_path / "loop")


def test_the_run_itself_and_its_folders_may_be_links(tmp_path: Path, tiny_run: Run) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    disk = tmp_path / "disk"
    tiny_run.root.rename(disk)
    (disk / "rounds").rename(tmp_path / "elsewhere")
    (disk / "rounds").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(disk)
    assert len(aggregate(Run.open(tmp_path / "link")).clients) == 3


PLACES = [
    "run.json",
    "rounds/0000/global.safetensors",
    "rounds/0001/updates/0.safetensors",
    "rounds/0001/updates/0.json",
    "rounds/0001/training/0.json",
    "rounds/0001/aggregate.json",
    "rounds/0001/evaluation.json",
    "rounds/0001/global.safetensors",
    "data/partition.json",
]


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("place", PLACES)
def test_steps_end_where_there_is_no_file(
    tiny_run: Run, place: str, make: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    path = tiny_run.root / place
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True, parents=True)
    make(path)
    for command in ("status", "report", "aggregate"):
        done = execute([command, "--json", "--run", str(tiny_run.root)])
        result = json.loads(capfd.readouterr().out)
        assert done in (0, 1, 3, 4, 5)
        if done:
            assert result["error"]["kind"] != "internal", result
            assert done == 3 or str(tiny_run.root) in result["error"]["message"]


# --- files that change -------------------------------------------------------------------------


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(path.read_bytes())
    os.utime(path, ns=(1, 1))


def replace(path: Path) -> None:
    data = path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(data)
    other.rename(path)


@pytest.mark.parametrize("change", [grow, rewrite])
def test_a_file_that_is_changed_while_it_is_read(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    save(tmp_path / "a", tensors(1), Metadata(Kind.UPDATE, "f"))
    with Checkpoint(tmp_path / "a") as checkpoint:
        change(tmp_path / "a")
        for read in (checkpoint.tensors, checkpoint.digest):
            with pytest.raises(BadInputError, match="a: was changed or replaced while it was read"):
                read()


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_one(tmp_path: Path) -> None:
    sha256 = save(tmp_path / "a", tensors(1), Metadata(Kind.UPDATE, "f"))
    with Checkpoint(tmp_path / "a") as checkpoint:
        save(tmp_path / "b", tensors(2), Metadata(Kind.UPDATE, "f"))
        (tmp_path / "b").rename(tmp_path / "a")
        assert checkpoint.digest() == sha256
        assert checkpoint.tensor("fc.bias").tobytes() == tensors(1)["fc.bias"].tobytes()


def test_an_update_that_grows_while_it_is_averaged_is_left_out(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    path, real = tiny_run.round(1).update("1"), os.preadv

    def preadv(*arguments: Any) -> int:
        grow(path)
        return real(*arguments)

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(BadInputError, match=r"updates/1\.safetensors"):
        aggregate(tiny_run)
    assert not tiny_run.round(1).global_model.exists()


# --- names -------------------------------------------------------------------------------------

BAD_IDS = ("", ".", "..", "../0", "a/b", "/a", "-1", ".a", "a\n", "a\0", "é", "٣", "x" * 65, "a b")


@pytest.mark.parametrize("name", BAD_IDS)
def test_what_is_no_client_id(tmp_path: Path, name: str) -> None:
    assert not is_client_id(name)
    with pytest.raises(UsageError):
        check_client_id(name)
    for metadata in ({"client": name}, {"updates": {name: "f" * 64}}):
        text = json.dumps({"format": 1, "kind": "partial", "run": "f", **metadata})
        with pytest.raises(ValueError, match="expected a client id"):
            Metadata.decode(text)


@pytest.mark.parametrize("name", ["../../../../secret", "x" * 65, "a/b"])
def test_a_manifest_cannot_name_files_elsewhere(tiny_run: Run, name: str) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    aggregate(tiny_run)
    manifest = tiny_run.round(1).manifest
    values = json.loads(manifest.read_text())
    values["accepted"][0]["client"] = name
    write_json(manifest, values)
    with pytest.raises(BadInputError, match=r"aggregate\.json: accepted\[0\]\.client: expected a"):
        report([tiny_run])


def test_rounds_have_one_name_each(tiny_run: Run) -> None:
    for name in ("00000", "00001", "٠٠٠١", "0001 ", "1", "9" * 200, "-0001", "0001.safetensors"):
        (tiny_run.root / "rounds" / name).mkdir()
    assert [round_.number for round_ in tiny_run.rounds()] == [0]
    assert status(tiny_run).open_round == 1


def test_what_is_not_there_and_what_lies_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "nothing", tmp_path / "file" / "below"):
        with pytest.raises(NotReadyError, match="no such file"):
            InputFile(path)
        with pytest.raises(FileNotFoundError):
            read_json(path)


def test_a_seed_that_no_file_can_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = fedcli("init", "--classes", "a,b", "--seed", 2**63, "--json", cwd=tmp_path)
    assert (done.status, done.json["error"]["kind"]) == (2, "usage")
    assert list(tmp_path.iterdir()) == []
