"""Make private keys, or show their public keys."""

from dataclasses import dataclass
from pathlib import Path

from fedcli.security.key_files import read_key_file, write_key_file
from fedcli.security.noise_key import read_noise_key, write_noise_key


@dataclass(frozen=True)
class KeygenResult:
    """Keys: ``public`` is the line of their public keys; ``made`` is whether they are new.

    Of a noise key, ``public`` is ``sha256:`` and its SHA-256, hex.
    """

    path: Path
    public: str
    made: bool


def keygen(
    root: Path, path: Path, *, noise: bool = False, show: bool = False, force: bool = False
) -> KeygenResult:
    """Make Ed25519 and X25519 keys in a file of mode 0600; with ``show`` only read them.

    With ``noise``, it is a key for secret noise instead.

    ``path`` must lie outside the run directory ``root``, even if there is no run.

    Raises ``UsageError`` for a path inside, ``ConflictError`` if the file exists, unless ``force``,
    ``NotReadyError`` and ``BadInputError`` for a key that cannot be shown, ``StorageError`` and
    ``MissingDependencyError``.
    """
    if noise:
        key = (
            read_noise_key(path, outside=root)
            if show
            else write_noise_key(path, outside=root, force=force)
        )
        return KeygenResult(path, f"sha256:{key.commitment}", made=not show)
    if show:
        found = read_key_file(path, outside=root)
    else:
        found = write_key_file(path, outside=root, force=force)
    return KeygenResult(path, found.public.line, made=not show)
