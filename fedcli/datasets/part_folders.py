"""Which folders hold a part of a data set: to train on, to test on, to validate on."""

from collections.abc import Collection, Mapping
from pathlib import Path

from fedcli.datasets.folder_tree import Folder, some
from fedcli.errors import DataError

# The names of folders that hold a part of a data set, in lower case.
_ROLES: Mapping[str, Collection[str]] = {
    "train": ("train", "training", "train_set", "trainset", "training_set"),
    "test": ("test", "testing", "test_set", "testset"),
    "val": ("val", "valid", "validation", "val_set", "dev"),
}


def role_named(name: str) -> str | None:
    """Return the part that a folder of this name holds, or None for any other name."""
    lowered = name.lower().replace("-", "_").replace(" ", "_")
    return next((role for role, names in _ROLES.items() if lowered in names), None)


def part_roles(base: Folder) -> dict[str, Folder]:
    """Return the folders that are parts, by role; none if they are classes like their neighbours.

    Raises ``DataError`` for two folders of one role, and for parts without class folders.
    """
    named = [(role, one) for name, one in base.filled.items() if (role := role_named(name))]
    nested = [one for _, one in named if not one.pictures]
    if not nested and (len(named) < len(base.filled) or len(named) < 2):
        return {}
    roles: dict[str, Folder] = {}
    for role, folder in named:
        if role in roles:
            both = f"{roles[role].name}/ and {folder.name}/"
            raise DataError(f"{both} are both a {role} part; expected one", path=base.path)
        roles[role] = folder
    if not nested:
        raise DataError(
            f"{some([f'{one.name}/' for _, one in named])} hold pictures, but no class folders",
            hint="add class folders, or name a CSV file with the labels: --labels-csv FILE",
            path=base.path,
        )
    return roles


def training_and_test(
    base: Folder, roles: Mapping[str, Folder], remarks: list[str]
) -> dict[str, Folder]:
    """Choose the training and the test part. Raises ``DataError`` if one is missing."""
    test = roles.get("test") or roles.get("val")
    if "train" not in roles or test is None:
        there = " and ".join(f"{one.name}/" for one in roles.values())
        missing = "training part" if "train" not in roles else "test part"
        raise DataError(
            f"has {there} but no {missing}",
            hint="add train/ or test/, or name the folder that holds the class folders",
            path=base.path,
        )
    unused = " (a validation part is not used)" if len(roles) == 3 else ""
    if unused or (roles["train"].name, test.name) != ("train", "test"):
        remarks.append(f"{roles['train'].name}/ is to train on, {test.name}/ to test on{unused}")
    return {"train": roles["train"], "test": test}


def folder_of_split(
    root: Path, roles: Mapping[str, Folder], split: str, remarks: list[str]
) -> Folder:
    """Choose the folder of a split, ``val`` for a missing ``test``. Raises ``DataError``."""
    found = roles.get(split) or (roles.get("val") if split == "test" else None)
    if found is None:
        there = " and ".join(f"{one.name}/" for one in roles.values())
        raise DataError(f"has {there} but no {split}/", path=root)
    remarks.append(f"{found.name}/ is read")
    return found
