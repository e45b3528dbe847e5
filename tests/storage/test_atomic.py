"""A file appears whole, or not at all; what a killed process leaves is passed over and cleaned."""

import errno
import json
import os
import signal
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.runs import deliver, python, tensors

from fedcli.errors import BadInputError, NotReadyError, StorageError
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.storage.atomic import (
    InputFile,
    atomic_writer,
    canonical_json,
    read_json,
    write_all,
    write_bytes,
    write_json,
)
from fedcli.storage.commit import locked
from fedcli.storage.temporaries import remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def failing() -> None:
        with atomic_writer(path) as file:
            write_all(file, b"new", 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_nobody_sees_the_file_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a"
    with atomic_writer(path) as file:
        write_all(file, b"new", 0)
        assert not path.exists()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_follows_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def killed_while_writing(path: Path) -> None:
    """A process that is killed after it has written half of its file."""
    program = (
        "import os, signal, sys; from pathlib import Path; from fedcli.storage.atomic import *\n"
        "with atomic_writer(Path(sys.argv[1])) as file:\n"
        "    write_all(file, b'half', 0)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert python(program, path).status == -signal.SIGKILL


def test_what_a_killed_process_leaves_is_cleaned_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "a"
    killed_while_writing(path)
    assert not path.exists()
    (leftover,) = names(tmp_path)
    assert leftover.startswith(".a.")
    write_bytes(tmp_path / "b", b"")
    assert names(tmp_path) == ["b"]


def test_leftovers_are_no_updates_and_no_rounds(tiny_run: Run) -> None:
    for client in "012":
        deliver(tiny_run, client, tensors(1))
    killed_while_writing(tiny_run.round(1).update("3"))
    killed_while_writing(tiny_run.round(1).global_model)
    assert tiny_run.round(1).delivered() == ["0", "1", "2"]
    assert tiny_run.open_round().number == 1
    aggregate(tiny_run)
    assert names(tiny_run.round(1).path) == ["aggregate.json", "global.safetensors", "updates"]


def test_what_others_are_writing_is_left_alone(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "a") as file:
        write_all(file, b"mine", 0)
        remove_leftovers(tmp_path)
        (mine,) = names(tmp_path)
        elsewhere = mine.replace(f".{os.getpid()}-", "-of-another-host.1-")
        (tmp_path / elsewhere).touch()
        (tmp_path / ".hidden").touch()
        remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(["a", elsewhere, ".hidden"])


def test_a_write_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data[:3]), at))
    write_bytes(tmp_path / "a", bytes(range(100)))
    assert (tmp_path / "a").read_bytes() == bytes(range(100))


def test_where_no_directory_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/a: cannot write: (Not a directory|File exists)"):
        write_bytes(tmp_path / "file" / "a", b"")


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match="a: cannot write: Is a directory"):
        write_bytes(tmp_path / "a", b"")
    assert names(tmp_path) == ["a"]


def test_json(tmp_path: Path) -> None:
    values = {"b": [1, 2.5, None, True], "a": {"ü": "„"}}
    write_json(tmp_path / "a", values)
    assert read_json(tmp_path / "a") == values
    assert (tmp_path / "a").read_bytes().endswith(b"}\n")
    assert canonical_json(values) == '{"a":{"ü":"„"},"b":[1,2.5,null,true]}'.encode()
    assert json.loads(canonical_json(values)) == values
    with pytest.raises(BadInputError, match="JSON compliant"):
        write_json(tmp_path / "b", {"loss": float("nan")})
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ValueError, match=r"JSON|UTF-8|nested"):
        read_json(tmp_path / "a")


def test_a_resting_file_is_read_on_and_a_replaced_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with InputFile(path) as file:
        assert file.read(4, 2) == b"2345"
        file.release()
        assert file.read(4, 6) == b"6789"
        write_bytes(path, b"abcdefghij")
        assert file.read(2, 0) == b"01"
        file.release()
        with pytest.raises(BadInputError, match="changed or replaced"):
            file.read(2, 0)
        path.unlink()
        with pytest.raises(NotReadyError):
            file.read(2, 0)


# --- one at a time -------------------------------------------------------------------------------


def inside(directory: Path, said: list[str], name: str) -> None:
    with locked(directory):
        said.append(name)


def test_one_process_at_a_time_is_alone_in_a_directory(tmp_path: Path) -> None:
    said: list[str] = []
    waiting = threading.Thread(target=inside, args=(tmp_path, said, "second"))
    with locked(tmp_path):
        waiting.start()
        waiting.join(0.2)
        inside(tmp_path.parent, said, "elsewhere")
        assert said == ["elsewhere"]
    waiting.join()
    assert said == ["elsewhere", "second"]
    assert names(tmp_path) == []


def test_who_is_killed_keeps_nobody_out(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from fedcli.storage.commit import locked\n"
        "with locked(Path(sys.argv[1])): os.kill(os.getpid(), 9)\n"
    )
    assert python(code, tmp_path).status == -signal.SIGKILL
    said: list[str] = []
    inside(tmp_path, said, "next")
    assert said == ["next"]


def test_nobody_is_kept_out_where_there_are_no_locks_or_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with locked(tmp_path):
        monkeypatch.setattr("fedcli.storage.commit._PATIENCE", 0.05)
        inside(tmp_path, said, "impatient")

        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fedcli.storage.commit._PATIENCE", 1e9)
        monkeypatch.setattr("fcntl.flock", no_locks)
        inside(tmp_path, said, "without locks")
    assert said == ["impatient", "without locks"]


@pytest.mark.usefixtures("unsynced")
def test_writing_many_files_takes_time_in_proportion_to_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, scan = [], os.scandir

    def counted(directory: Path) -> "Iterator[os.DirEntry[str]]":
        with scan(directory) as entries:
            for entry in entries:
                seen.append(entry.name)
                yield entry

    for number in range(2000):
        (tmp_path / str(number)).touch()
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", counted)
        for number in range(200):
            write_bytes(tmp_path / str(number), b"")
    assert 2000 <= len(seen) < 100_000  # 400,000 if every write looks at all names
