"""Make a private key, or show the public key of one."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.security.keys import read_key, write_new_key


@dataclass(frozen=True)
class KeygenResult:
    """A key: ``public`` is the line of text that others know it by; ``made`` says if it is new."""

    path: Path
    public: str
    made: bool


def keygen(root: Path, path: Path, *, show: bool = False, force: bool = False) -> KeygenResult:
    """Make an Ed25519 key and write it to ``path`` with mode 0600; with ``show`` only read it.

    No key is to be in the run directory ``root``, be there a run or not.

    Raises ``UsageError`` for one that is, ``ConflictError`` where a file is there already, unless
    ``force``, ``NotReadyError`` and ``BadInputError`` for a key that cannot be shown,
    ``StorageError`` and ``MissingDependencyError``.
    """
    if show:
        return KeygenResult(path, read_key(path, outside=root).public, made=False)
    return KeygenResult(path, write_new_key(path, outside=root, force=force).public, made=True)
