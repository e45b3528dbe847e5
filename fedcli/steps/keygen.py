"""Make private keys, or show their public keys."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.security.key_files import read_key_file, write_key_file


@dataclass(frozen=True)
class KeygenResult:
    """Keys: ``public`` is the line of their public keys; ``made`` is whether they are new."""

    path: Path
    public: str
    made: bool


def keygen(root: Path, path: Path, *, show: bool = False, force: bool = False) -> KeygenResult:
    """Make Ed25519 and X25519 keys in a file of mode 0600; with ``show`` only read them.

    ``path`` must lie outside the run directory ``root``, even if there is no run.

    Raises ``UsageError`` for a path inside, ``ConflictError`` if the file exists, unless ``force``,
    ``NotReadyError`` and ``BadInputError`` for a key that cannot be shown, ``StorageError`` and
    ``MissingDependencyError``.
    """
    if show:
        found = read_key_file(path, outside=root)
    else:
        found = write_key_file(path, outside=root, force=force)
    return KeygenResult(path, found.public.line, made=not show)
