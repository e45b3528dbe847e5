"""Names of remotes: a folder, a URL of fsspec, or one file that ends in ``.zip``."""

import re

from fedcli.errors import UsageError
from fedcli.text import brief, is_utf8

BUNDLE = ".zip"
S3 = ("s3", "s3a")
SFTP = ("sftp", "ssh")
_LOCAL = ("file", "local")
_URL = re.compile(r"([a-z][a-z0-9+.:-]*?)://(.*)", re.DOTALL | re.IGNORECASE)
_ADDRESS = re.compile(r"\[[0-9a-f:.]*\]", re.IGNORECASE)  # of IPv6
# A user name, or a password that has a slash; a port is neither.
_USER = re.compile(r"([^/@]*)@|[^/@]*:(?!\d*(?:/|$))[^@]*@", re.DOTALL)
_PASSWORD = re.compile(r":|%3a", re.IGNORECASE)
_MEANT_AS_URL = re.compile(r"[a-z][a-z0-9+.-]+:/|[^/\\]*@[^/\\]*:", re.IGNORECASE)
_FORMS = "a folder, a URL such as sftp://host/srv/study, or a .zip file"
_CREDENTIALS = "they come from the environment, or from the protocol's own files"


def split_url(name: str) -> tuple[str | None, str]:
    """Return the protocol of a remote, None for a path of this machine, and what follows it."""
    match = _URL.fullmatch(name)
    if match is None:
        return None, name
    return (None, match[2]) if match[1] in _LOCAL else (match[1], match[2])


def check_remote_name(name: str, option: str) -> str:
    """Return the name of a remote that may be shown; raise ``UsageError`` otherwise.

    A URL with a password, a token or a key is refused: others see it in the list of processes, and
    in the run. Only SSH has user names that are no secret. No message repeats the name before it is
    known to hold none. Chains of protocols are refused too: they would reach further than the URL
    says.
    """
    protocol, rest = split_url(name)
    if _holds_credentials(protocol, rest):
        raise UsageError(
            f"{option}: the URL holds a user name, a password or a token, which others would see",
            hint=f"leave credentials out: {_CREDENTIALS}",
        )
    if protocol is None and _MEANT_AS_URL.match(rest):
        raise UsageError(f"{option}: expected {_FORMS}", hint="put ./ before the name of a folder")
    if not name or not name.isprintable() or not is_utf8(name):
        raise UsageError(f"{option}: expected {_FORMS}, found {brief(name)}")
    if protocol is not None:
        _check_url(name, protocol, rest, option)
    return name


def _holds_credentials(protocol: str | None, rest: str) -> bool:
    if protocol is None or "?" in rest:
        return protocol is not None
    found = _USER.match(rest)
    if found is not None and protocol.lower() in SFTP and found[1] is not None:
        return _PASSWORD.search(found[1]) is not None
    return found is not None


def _check_url(name: str, protocol: str, rest: str, option: str) -> None:
    if "::" in _ADDRESS.sub("", name):
        raise UsageError(f"{option}: expected the URL of one protocol, found a chain of them (::)")
    if protocol != protocol.lower():
        expected = f"{protocol.lower()}://{rest}"
        raise UsageError(f"{option}: expected {brief(expected)}, found {brief(name)}")
    if protocol in (*S3, *SFTP) and not re.match(r"([^/]*@)?[^/:]", rest):
        raise UsageError(f"{option}: expected a host or a bucket after {protocol}://")
    if rest.endswith(BUNDLE):
        raise UsageError(
            f"{option} {brief(name)}: a bundle is a file of this machine",
            hint="write it here, and copy it there with the store's own tool",
        )


def check_default_remote(name: str, option: str) -> str:
    """Return a remote that a run may name for all of its clients; raise ``UsageError`` otherwise.

    Everybody reads the name in a place of their own, so a path has to be absolute.
    """
    check_remote_name(name, option)
    protocol, rest = split_url(name)
    if protocol is None and (not rest.startswith("/") or rest.endswith(BUNDLE)):
        raise UsageError(f"{option}: expected a URL or an absolute folder, found {brief(name)}")
    return name
