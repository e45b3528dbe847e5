"""The only copy of a file survives a disk on which one sort of call keeps failing."""

import errno
import re
import shutil
from pathlib import Path

import pytest
from support.behind_faults import Commands, check_readable, contents, restore
from support.interrupted_steps import PARTITION, STEPS, TRAIN, Step, prepare
from support.thorough import THOROUGH

from fedcli.errors import StorageError
from fedcli.storage.commit import commit
from fedcli.storage.temporaries import backup_of, remove_leftovers

_MODEL = ("export", "-o", "model.safetensors")
_EXPORTED = (PARTITION, TRAIN, ("aggregate",), _MODEL)
REPLACING = {
    **{name: STEPS[name] for name in ("partition --force", "train-client --force")},
    "aggregate --force": STEPS["aggregate --force"],
    "evaluate --force": Step(
        ("evaluate", "--round", "1", "--force"),
        (PARTITION, TRAIN, ("aggregate",), ("evaluate", "--round", "1")),
    ),
    "export --force": Step((*_MODEL, "--force"), (*_EXPORTED, TRAIN, ("aggregate",))),
    "keygen --force": Step(("keygen", "a.key", "--force"), (("keygen", "a.key"),)),
}
# What the disk may still be able to do: to link if it cannot rename, to copy if it can do neither.
BROKEN = {
    "rename": ("rename", "replace"),
    "fsync": ("fsync", "fdatasync"),
    "link": ("link",),
    "unlink": ("unlink", "remove", "rmdir"),
    "rename and link": ("rename", "replace", "link"),
}
SAMPLE = {"rename", "fsync", "rename and link"}


@pytest.mark.parametrize("broken", [one for one in BROKEN if THOROUGH or one in SAMPLE])
@pytest.mark.parametrize("name", REPLACING)
def test_the_old_file_or_the_new_one_is_there(
    behind_faults: Commands, name: str, broken: str, tmp_path: Path
) -> None:
    step, before, folder = REPLACING[name], tmp_path / "before", tmp_path / "folder"
    prepare(behind_faults, step, before)
    restore(folder, before)
    calls = behind_faults(folder, *step.words).calls
    old, new = contents(before), contents(folder)
    failing = [n for n, call in enumerate(calls) if call.split()[0] in BROKEN[broken]]
    for number in failing if THOROUGH else sorted({*failing[:1], *failing[-2:]}):
        restore(folder, before)
        fault = {"how": "broken", "number": errno.EIO, "names": BROKEN[broken]}
        ended = behind_faults(folder, *step.words, at=number, **fault)
        found = {n: data for n, data in contents(folder).items() if "/training/" not in n}
        what = (calls[number], ended)
        assert ended.status in (0, 1), what
        assert old.keys() <= found.keys() or new.keys() <= found.keys(), what
        if name != "keygen --force":  # a key that is new is another one each time
            assert all(found[one] in (old.get(one), new.get(one)) for one in found), what
        if ended.status == 1 and "nothing was changed" in ended.err:
            assert found == old, what
        check_readable(folder / "fedrun")


def replace_file(path: Path) -> None:
    def write() -> None:
        raise OSError(errno.EIO, "Input/output error")

    commit(path, [], write=write, publish=write, is_done=lambda: False, replaces=True)


def test_a_file_that_cannot_be_put_back_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "global model.safetensors"
    path.write_text("old")
    with monkeypatch.context() as disk:
        real = Path.hardlink_to
        links: list[Path] = []

        def link_once(self: Path, target: Path) -> None:
            if links:
                raise OSError(errno.EIO, "Input/output error")
            links.append(self)
            real(self, target)

        disk.setattr(Path, "hardlink_to", link_once)
        disk.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
        disk.setattr("fedcli.storage.commit._copy", lambda *_: (_ for _ in ()).throw(OSError(5)))
        with pytest.raises(StorageError, match="the old file could not be put back") as caught:
            replace_file(path)
    (backup,) = tmp_path.iterdir()
    assert backup.name in caught.value.message
    assert caught.value.hint == f"once the cause is removed: mv '{backup}' '{path}'"
    remove_leftovers(tmp_path)
    assert backup.read_text() == "old"  # of a running process
    shutil.move(backup, path)
    assert path.read_text() == "old"


def test_the_only_copy_of_a_killed_process_is_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "update.safetensors"
    gone = re.sub(r"\.\d+-", ".999999999-", backup_of(path).name)
    (tmp_path / gone).write_text("old")
    remove_leftovers(tmp_path)
    assert (tmp_path / gone).exists()
    path.write_text("new")
    remove_leftovers(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
