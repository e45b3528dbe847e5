"""Names of remotes: a folder, a URL of fsspec, or one file that ends in ``.zip``."""

import re

from fedcli.errors import UsageError
from fedcli.text import brief, is_utf8

BUNDLE = ".zip"
_LOCAL = ("file", "local")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_PASSWORD = re.compile(r"[^/@]*:[^/@]*@")
_CREDENTIALS = "they come from the environment, or from the protocol's own files"


def split_url(name: str) -> tuple[str | None, str]:
    """Return the protocol of a remote, None for a path of this machine, and what follows it."""
    match = _URL.fullmatch(name)
    if match is None:
        return None, name
    return (None, match[2]) if match[1] in _LOCAL else (match[1], match[2])


def check_remote_name(name: str, option: str) -> str:
    """Return the name of a remote that may be shown; raise ``UsageError`` otherwise.

    A URL with a password or a token is refused: others see it in the list of processes, and in the
    run. So are chains of protocols, which would reach further than the URL says.
    """
    if not name or not name.isprintable() or not is_utf8(name):
        raise UsageError(f"{option}: expected a folder, a URL or a .zip file, found {brief(name)}")
    if "::" in name and "://" in name:
        raise UsageError(f"{option}: expected the URL of one protocol, found {brief(name)}")
    protocol, rest = split_url(name)
    if protocol is None:
        return name
    if _PASSWORD.match(rest) or "?" in rest:
        raise UsageError(
            f"{option}: the URL holds a password or a token, which others would see",
            hint=f"leave credentials out: {_CREDENTIALS}",
        )
    if rest.endswith(BUNDLE):
        raise UsageError(
            f"{option} {brief(name)}: a bundle is a file of this machine",
            hint="write it here, and copy it there with the store's own tool",
        )
    return name


def check_default_remote(name: str, option: str) -> str:
    """Return a remote that a run may name for all of its clients; raise ``UsageError`` otherwise.

    Everybody reads the name in a place of their own, so a path has to be absolute.
    """
    check_remote_name(name, option)
    protocol, rest = split_url(name)
    if protocol is None and (not rest.startswith("/") or rest.endswith(BUNDLE)):
        raise UsageError(f"{option}: expected a URL or an absolute folder, found {brief(name)}")
    return name
