"""How a folder of pictures is understood: which sub-folders are parts, classes, or groups.

This and ``part_folders`` alone decide it, for every command. A folder that can be read in two ways
is refused, with the option that decides; what was decided is put into ``remarks``.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcli.datasets.folder_tree import Folder, FolderTree, LeftOut, read_tree, some, summarized
from fedcli.datasets.part_folders import folder_of_split, part_roles, role_named, training_and_test
from fedcli.errors import DataError
from fedcli.progress import Progress
from fedcli.text import is_utf8

FOLDER = "folder"  # the value of --group for which the folders are the groups
NO_GROUPS = "none"  # the value of --group for which no folder is a group

_UNKNOWN = "rename or remove the folder; a class has a folder with pictures to train on"
_EXPECTED = "expected PATH/<class>/*.png, or PATH/train/<class>/*.png and PATH/test/<class>/*.png"


@dataclass(frozen=True)
class PartFolder:
    """The folder of a part, and the class folders in it: each with its class, sorted by path.

    In a part with groups, ``groups`` has the group of each class folder; it is empty without.
    """

    folder: Folder
    classes: tuple[tuple[str, Folder], ...]
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Understanding:
    """How a folder is read: the parts by role (``""`` is all of it) and the sorted classes.

    ``remarks`` are the decisions that a reader may not expect.
    """

    root: Path
    parts: Mapping[str, PartFolder]
    classes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    remarks: tuple[str, ...]

    def say(self, progress: Progress) -> None:
        """Report how the folder is read, and what is left out."""
        for line in (*self.remarks, *summarized(self.left_out)):
            progress.say(f"{self.root}: {line}")


def understand(root: Path, group: str | None = None) -> Understanding:
    """Decide how a new data set in a folder is read.

    ``group`` is that of ``--group``. Raises ``NotReadyError``, ``StorageError``, and ``DataError``
    for a folder that can be read in no way or in two.
    """
    tree = read_tree(root)
    base, remarks = _unwrapped(tree.root, grouped=group == FOLDER)
    roles = part_roles(base)
    parts = training_and_test(base, roles, remarks) if roles else {"": base}
    found: dict[str, PartFolder] = {}
    for role, folder in parts.items():
        common = role == "test" and group == FOLDER and _is_common(folder, found["train"])
        found[role] = _classes_of(folder) if common else _part(folder, group, remarks)
    training = next(iter(found.values()))
    classes = tuple(sorted({name for name, _ in training.classes}))
    _check_classes(tree, training, classes)
    _check_known(found, classes)
    return Understanding(root, found, classes, _left_out(tree, found, base), tuple(remarks))


def understand_own(root: Path, classes: Sequence[str], split: str) -> Understanding:
    """Decide how a client's folder is read for a run with these classes.

    If it has parts, ``split`` is read, or ``val`` for a missing ``test``. Raises as ``understand``,
    and ``DataError`` for folders that are not classes of the run.
    """
    tree = read_tree(root)
    base, remarks = _unwrapped(tree.root, known=classes)
    roles = {} if _are_classes(base, classes) else part_roles(base)
    folder = folder_of_split(root, roles, split, remarks) if roles else base
    folder, more = _unwrapped(folder, known=classes)
    part = _classes_of(folder)
    if not _are_classes(folder, classes) and _hold_classes(folder, classes):
        part = _groups_of(folder)
        remarks.append(f"{some(list(folder.filled))} hold the classes, and are read together")
    if not part.classes:
        raise DataError(
            f"expected pictures in class folders, found none{_instead(tree)}",
            hint=f"the classes are: {some(list(classes), 20)}",
            path=folder.path,
        )
    _check_known({split: part}, classes)
    parts = {split: part}
    left_out = _left_out(tree, parts, base)
    return Understanding(root, parts, tuple(classes), left_out, (*remarks, *more))


def _unwrapped(
    folder: Folder, known: Collection[str] = (), *, grouped: bool = False
) -> tuple[Folder, list[str]]:
    """Go into a folder that holds nothing but one folder of folders."""
    remarks: list[str] = []
    while len(folder.filled) == 1 and not folder.pictures:
        (inner,) = folder.filled.values()
        name = inner.name.rpartition("/")[2]
        if inner.pictures or name in known or role_named(name) or not inner.filled:
            break
        if grouped and any(one.pictures for one in inner.filled.values()):
            break
        remarks.append(f"{inner.name}/ holds everything, and is read in its place")
        folder = inner
    return folder, remarks


def _part(folder: Folder, group: str | None, remarks: list[str]) -> PartFolder:
    """Read a part of a new data set. Raises ``DataError`` for folders that may be groups."""
    if group == FOLDER:
        return _groups_of(folder)
    folder, more = _unwrapped(folder)
    remarks += more
    if group is None:
        _check_no_groups(folder)
    return _classes_of(folder)


def _classes_of(folder: Folder) -> PartFolder:
    return PartFolder(folder, tuple(folder.filled.items()))


def _groups_of(folder: Folder) -> PartFolder:
    """Read a folder of groups. Raises ``DataError`` for one with pictures in place of classes."""
    for one in folder.filled.values():
        if one.pictures and not one.filled:
            raise DataError(
                "expected one folder for each class, found pictures",
                hint=f"with --group {FOLDER}, each group's folder holds one folder for each class",
                path=one.path,
            )
    pairs = [
        (group, name, inner)
        for group, outer in folder.filled.items()
        for name, inner in outer.filled.items()
    ]
    return PartFolder(
        folder, tuple((name, inner) for _, name, inner in pairs), tuple(one[0] for one in pairs)
    )


def _is_common(folder: Folder, training: PartFolder) -> bool:
    """Return whether a test part holds class folders, not groups of them."""
    names = {name for name, _ in training.classes}
    inner = {name for one in folder.filled.values() for name in one.filled}
    return not inner & names


def _check_no_groups(folder: Folder) -> None:
    """Raise ``DataError`` if most sub-folders of the folders have the same names."""
    outer = {name: one for name, one in folder.filled.items() if not one.pictures}
    counts = Counter(name for one in outer.values() for name in one.filled)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if len(counts) < 2 or 2 * len(repeated) < len(counts):
        return
    raise DataError(
        f"{some([f'{name}/' for name in outer])} hold folders of the same names ({some(repeated)}):"
        " either can be the classes",
        hint=f"--group {FOLDER} takes {some(list(outer))} for groups and {some(repeated)} for"
        f" classes; --group {NO_GROUPS} takes {some(list(outer))} for classes",
        path=folder.path,
    )


def _are_classes(folder: Folder, classes: Collection[str]) -> bool:
    return bool(folder.filled) and set(folder.filled) <= set(classes)


def _hold_classes(folder: Folder, classes: Collection[str]) -> bool:
    """Return whether every folder holds class folders, and nothing else."""
    filled = folder.filled.values()
    return bool(filled) and all(not one.pictures and _are_classes(one, classes) for one in filled)


def _check_classes(tree: FolderTree, part: PartFolder, classes: Sequence[str]) -> None:
    """Raise ``DataError`` for fewer than two classes, and for names that no file can hold."""
    if len(classes) < 2:
        found = f"found one: {classes[0]!r}" if classes else "found none"
        tables = [one.name for one in tree.left_out if one.name.lower().endswith(".csv")]
        raise DataError(
            f"expected one folder for each class, at least two, {found}{_instead(tree)}",
            hint=f"if {some(tables)} has the labels: --labels-csv FILE" if tables else _EXPECTED,
            path=tree.root.path,
        )
    bad = [folder for name, folder in part.classes if not is_utf8(name)]
    bad += [one for name, one in part.folder.filled.items() if part.groups and not is_utf8(name)]
    if bad:
        raise DataError(
            "the name of this folder is not UTF-8",
            hint="rename it: the classes and groups of a run are text in its files",
            path=bad[0].path,
        )


def _check_known(parts: Mapping[str, PartFolder], classes: Sequence[str]) -> None:
    """Raise ``DataError`` that names the folders that are not classes."""
    known = set(classes)
    unknown = [
        (name, folder)
        for part in parts.values()
        for name, folder in part.classes
        if name not in known
    ]
    if not unknown:
        return
    names = list(dict.fromkeys(name for name, _ in unknown))
    folded = {name.casefold().strip(): name for name in classes}
    alike = [(name, folded[key]) for name in names if (key := name.casefold().strip()) in folded]
    raise DataError(
        f"no class {', '.join(map(repr, names[:10]))}; the classes are: {', '.join(classes[:20])}",
        hint=f"is {alike[0][0]!r} the class {alike[0][1]!r}? rename the folder"
        if alike
        else _UNKNOWN,
        path=unknown[0][1].path,
    )


def _left_out(
    tree: FolderTree, parts: Mapping[str, PartFolder], base: Folder
) -> tuple[LeftOut, ...]:
    """Add what is beside the folders that are read, and empty ones, to what the tree leaves out."""
    outer = {id(part.folder): part.folder for part in parts.values()}
    if any(part.groups for part in parts.values()):
        inner = [one for folder in outer.values() for one in folder.filled.values()]
        outer |= {id(one): one for part in parts.values() if part.groups for one in inner}
    found = list(tree.left_out)
    for folder in ({id(base): base} | outer).values():
        found += [
            LeftOut(one.name, "no picture in this folder")
            for one in folder.folders.values()
            if not one
        ]
        where = f"{folder.name}/" if folder.name else ""
        found += [LeftOut(f"{where}{name}", "beside the class folders") for name in folder.pictures]
    if id(base) not in outer:
        read = [folder.name for folder in outer.values()]
        found += [
            LeftOut(one.name, "beside the parts")
            for one in base.filled.values()
            if not any(name == one.name or name.startswith(f"{one.name}/") for name in read)
        ]
    return tuple(found)


def _instead(tree: FolderTree) -> str:
    """Say what kinds of files are there in place of pictures."""
    kinds = Counter(
        Path(one.name).suffix.lower()
        for one in tree.left_out
        if one.why.startswith("not a picture")
    )
    kinds.pop("", None)
    return f", but files of these kinds: {some(list(kinds))}" if kinds else ""
