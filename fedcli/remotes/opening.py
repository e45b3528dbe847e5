"""From the name of a remote to the remote."""

from pathlib import Path
from typing import Any

from fedcli.errors import FedcliError, MissingDependencyError, NotReadyError, UsageError
from fedcli.formats.remote_names import BUNDLE, S3, SFTP, check_remote_name, split_url
from fedcli.remotes.bundle import BundleRemote
from fedcli.remotes.folder import FolderRemote
from fedcli.remotes.network import NetworkRemote, S3Remote, SftpRemote
from fedcli.remotes.remote import Remote, remote_errors


def open_remote(name: str, run: Path) -> Remote:
    """Return a remote; nothing is read from it yet, but a connection may be made.

    Raises ``UsageError`` for a name that cannot be one, and for a folder in the ``run`` directory,
    ``MissingDependencyError`` without the library of the protocol, and
    ``StorageError``.
    """
    check_remote_name(name, "REMOTE")
    protocol, rest = split_url(name)
    if protocol is None:
        return _local(Path(rest), run)
    try:
        with remote_errors("connect", name):
            return _network(name, protocol)
    except FedcliError as error:
        if isinstance(error.__cause__, ImportError):
            raise _not_installed(protocol) from None
        if isinstance(error.__cause__, ValueError):  # fsspec's answer to an unknown protocol
            raise UsageError(f"REMOTE {error.message}") from None
        raise


def files_of_pattern(name: str) -> tuple[str, ...]:
    """Return the files of a pattern such as ``from-*.zip``, sorted; another name stands for itself.

    Not every shell expands patterns. Raises ``NotReadyError`` if no file has such a name, and
    ``UsageError`` for a name that cannot be a remote.
    """
    path = Path(check_remote_name(name, "REMOTE"))
    if split_url(name)[0] is not None or not set("*?[") & set(path.name) or path.exists():
        return (name,)
    found = tuple(sorted(str(each) for each in path.parent.glob(path.name)))
    if not found:
        raise NotReadyError(f"{name}: no file has such a name", hint="have the bundles arrived?")
    return found


def _local(path: Path, run: Path) -> Remote:
    if path.suffix == BUNDLE and not path.is_dir():
        return BundleRemote(path)
    if path.resolve().is_relative_to(run.resolve()):
        raise UsageError(
            f"REMOTE {path}: is the run directory itself, or a folder in it",
            hint="name another folder, a URL, or a .zip file",
        )
    return FolderRemote(path)


def _network(name: str, protocol: str) -> Remote:
    import fsspec

    if protocol in SFTP:
        return _sftp(name)
    system, root = fsspec.core.url_to_fs(name, use_listings_cache=False)
    return (S3Remote if protocol in S3 else NetworkRemote)(name, system, root)


def _sftp(name: str) -> Remote:
    from sshfs import SSHFileSystem

    found: dict[str, Any] = SSHFileSystem._get_kwargs_from_urls(name)
    given = {key: found[key] for key in ("username", "port") if found.get(key) is not None}
    host = str(found.get("host") or "").strip("[]")
    # Without this it would talk to any host, whatever key that shows; () stands for known_hosts.
    system = SSHFileSystem(host, **given, known_hosts=(), skip_instance_cache=True)
    return SftpRemote(name, system, SSHFileSystem._strip_protocol(name))


def _not_installed(protocol: str) -> MissingDependencyError:
    extra = "s3" if protocol in S3 else "sftp" if protocol in SFTP else None
    hint = "install what fsspec needs for it" if extra is None else f"pip install 'fedcli[{extra}]'"
    return MissingDependencyError(
        f"remotes of {protocol}:// need a library that is not installed", hint=hint
    )
