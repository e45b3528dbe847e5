"""Make a private key, or show its public key."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.security.keys import read_key, write_new_key


@dataclass(frozen=True)
class KeygenResult:
    """A key: ``public`` is its public key as a line of text; ``made`` is whether it is new."""

    path: Path
    public: str
    made: bool


def keygen(root: Path, path: Path, *, show: bool = False, force: bool = False) -> KeygenResult:
    """Make an Ed25519 key and write it to ``path`` with mode 0600; with ``show`` only read it.

    ``path`` must lie outside the run directory ``root``, even if there is no run.

    Raises ``UsageError`` for a path inside, ``ConflictError`` if the file exists, unless ``force``,
    ``NotReadyError`` and ``BadInputError`` for a key that cannot be shown, ``StorageError`` and
    ``MissingDependencyError``.
    """
    if show:
        return KeygenResult(path, read_key(path, outside=root).public, made=False)
    return KeygenResult(path, write_new_key(path, outside=root, force=force).public, made=True)
