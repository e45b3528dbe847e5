"""Anybody may put a file of any name into a shared directory; no step ends because of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_runs import small_run

from fedcli.run import Run
from fedcli.storage.atomic import write_bytes
from fedcli.storage.temporaries import is_running, remove_leftovers, temporary

pytestmark = pytest.mark.usefixtures("unsynced")

PIDS = ("99999999999", "0", "9" * 100, "4294967295", "2147483648", "1")


def of_this_host(folder: Path, pid: str) -> Path:
    """A temporary file that a process of this host with this number would have written."""
    own = temporary(folder / "x").name
    return folder / own.replace(f".{os.getpid()}-", f".{pid}-")


@pytest.mark.parametrize("pid", PIDS)
def test_no_number_of_a_process_ends_a_write(tmp_path: Path, pid: str) -> None:
    of_this_host(tmp_path, pid).write_bytes(b"")
    write_bytes(tmp_path / "file", b"text")
    assert (tmp_path / "file").read_bytes() == b"text"


def test_what_no_process_can_have_written_is_removed(tmp_path: Path) -> None:
    strange, own = of_this_host(tmp_path, "9" * 30), of_this_host(tmp_path, str(os.getpid()))
    strange.mkdir()
    own.touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [own]


def test_a_link_with_the_name_of_a_temporary_is_removed_and_not_followed(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "folder"
    kept.mkdir()
    (kept / "file").touch()
    folder.mkdir()
    of_this_host(folder, "9" * 11).symlink_to(kept, target_is_directory=True)
    remove_leftovers(folder)
    assert (list(folder.iterdir()), (kept / "file").exists()) == ([], True)


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**63, 10**100])
def test_no_process_has_a_number_out_of_range(pid: int) -> None:
    assert not is_running(pid)


def sprinkle(folder: Path) -> None:
    """Put entries of all sorts under odd names into a folder."""
    for pid in PIDS:
        of_this_host(folder, pid).touch()
    deep = of_this_host(folder, "9" * 11)
    (deep / "a" / "b").mkdir(parents=True)
    for name in ("²", "٣", "9" * 200, "-1", "new\nline", "\x1b[2J", "{}", "%s", "=1+1", "a" * 200):
        (folder / name).touch()
        (folder / f"{name}.safetensors").write_bytes(b"")
        (folder / f"{name}.json").write_bytes(b"{}")
    os.close(os.open(os.fsencode(folder) + b"/\xff\xfe.safetensors", os.O_CREAT))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).mkdir()
    (folder / "link").symlink_to(folder)
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.json")
    for name in ("٣٣٣٣", "99999999999999", "0000000007"):
        (folder / "rounds" / name if folder.name == "rounds" else folder / name).mkdir(parents=True)


def folders(run: Run) -> list[Path]:
    return [run.root, *(path for path in run.root.rglob("*") if path.is_dir())]


STEPS = (
    "train-client --id 0,1,2 --algorithm scaffold --run RUN",
    "aggregate --strategy scaffold --run RUN",
    "evaluate --clients --run RUN",
    "status --run RUN",
    "report RUN",
    "verify --run RUN",
    "inspect RUN/rounds/0001/global.safetensors",
    "export --output model.safetensors --force --run RUN",
    "gc --keep-last 1 --run RUN",
)


def test_every_step_goes_on_beside_files_of_any_name(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path / "fedrun", count=8)
    monkeypatch.chdir(tmp_path)

    def play() -> list[tuple[str, int]]:
        statuses = []
        for step in STEPS:
            status, out, err = cli(*step.replace("RUN", str(run.root)).split())
            assert (out + err).replace("\n", "").isprintable()
            statuses.append((step, status))
        return statuses

    before = play()
    assert [status for _, status in before] == [0, 0, 3, 0, 0, 0, 0, 0, 0]
    for folder in folders(run):
        sprinkle(folder)
    assert play() == before
