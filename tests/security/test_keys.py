"""Ed25519 keys: their files, the text of public keys, and ``fedcli keygen``."""

import base64
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcli.cli import execute
from fedcli.errors import (
    BadInputError,
    ConflictError,
    MissingDependencyError,
    NotReadyError,
    UsageError,
)
from fedcli.formats.public_key import check_public_key, public_keys
from fedcli.security.key_files import read_key_file, write_key_file
from fedcli.security.keys import SigningKey, verifies
from fedcli.security.keys import read_key as read_key_outside
from fedcli.security.keys import write_new_key as write_new_key_outside

# RFC 8032, section 7.1, tests 1 to 3: private key, public key, message, signature, in hex.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b4"
        "6bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d"
        "8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6"
        "594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
# What comes before the 32 bytes of a private Ed25519 key in PKCS #8 (RFC 8410, section 10.3).
PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


ELSEWHERE = Path("elsewhere")


def read_key(path: Path) -> SigningKey:
    return read_key_outside(path, outside=ELSEWHERE)


def write_new_key(path: Path, *, force: bool = False) -> SigningKey:
    return write_new_key_outside(path, outside=ELSEWHERE, force=force)


def write_private(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def pem(der: bytes, kind: str = "PRIVATE KEY") -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (
        kind.encode(), base64.encodebytes(der), kind.encode(),
    )  # fmt: skip


@pytest.mark.parametrize(("private", "public", "message", "signature"), VECTORS)
def test_keys_and_signatures_are_those_of_rfc_8032(tmp_path, private, public, message, signature):
    content = pem(PKCS8 + bytes.fromhex(private))
    key = read_key(write_private(tmp_path / "k", content))
    text = base64.b64encode(bytes.fromhex(public)).decode()
    assert key.public == f"ed25519:{text}"
    signed = key.sign(bytes.fromhex(message))
    assert base64.b64decode(signed).hex() == signature
    assert verifies(key.public, bytes.fromhex(message), signed)
    assert not verifies(key.public, bytes.fromhex(message) + b"\0", signed)


def test_what_is_written_is_read_and_other_tools_read_it_too(tmp_path):
    made = write_new_key(tmp_path / "k")
    assert read_key(tmp_path / "k").public == made.public
    assert write_new_key(tmp_path / "other").public != made.public
    loaded = serialization.load_pem_private_key((tmp_path / "k").read_bytes(), None)
    assert isinstance(loaded, Ed25519PrivateKey)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_key_is_its_owners_alone_from_its_first_moment(tmp_path, monkeypatch, umask):
    opened = []
    really_open = os.open

    def watched(path, flags, mode=0o777, **more):
        descriptor = really_open(path, flags, mode, **more)
        if flags & os.O_CREAT:
            opened.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(umask)
    try:
        write_new_key(tmp_path / "k")
    finally:
        os.umask(before)
    assert opened == [0o600]
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o700, 0o610, 0o644, 0o4600])
def test_a_key_that_others_can_use_is_refused(tmp_path, mode):
    write_new_key(tmp_path / "my key")
    (tmp_path / "my key").chmod(mode)
    with pytest.raises(BadInputError, match=f"expected mode 0600, found {mode:04o}") as caught:
        read_key(tmp_path / "my key")
    assert caught.value.hint == f"chmod 600 '{tmp_path / 'my key'}'"


def test_a_key_may_be_narrower(tmp_path):
    made = write_new_key(tmp_path / "k")
    (tmp_path / "k").chmod(0o400)
    assert read_key(tmp_path / "k").public == made.public


def encrypted() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def of_another_sort() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_pem() -> bytes:
    return pem(PKCS8 + bytes(32))


def masking_pem() -> bytes:
    return pem(PKCS8.replace(bytes.fromhex("2b6570"), bytes.fromhex("2b656e")) + bytes(32))


def only_public() -> bytes:
    return (
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: b"", "expected a private key"),
        (lambda: b"ed25519:AAAA", "expected a private key"),
        (lambda: bytes(range(256)), "expected a private key"),
        (lambda: pem(PKCS8 + bytes(31)), "expected a private key"),
        (lambda: b"x" * 70_000, "expected a private key"),
        (only_public, "expected a private key"),
        (of_another_sort, "a key of another sort"),
        (lambda: of_another_sort() + signing_pem(), "a key of another sort"),
        (lambda: signing_pem() + of_another_sort(), "found others beside it"),
        (lambda: signing_pem() + 2 * masking_pem(), "found others beside it"),
        (masking_pem, "a key of another sort, X25519PrivateKey"),
        (encrypted, "is encrypted"),
    ],
)
def test_what_is_no_key_is_refused_by_name(tmp_path, content: Callable[[], bytes], says):
    path = write_private(tmp_path / "k", content())
    with pytest.raises(BadInputError, match=says) as caught:
        read_key(path)
    assert str(path) in caught.value.message


def test_where_there_is_no_file(tmp_path):
    with pytest.raises(NotReadyError, match="no such file"):
        read_key(tmp_path / "k")
    with pytest.raises(BadInputError, match="found something else"):
        read_key(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(BadInputError, match="found something else"):
        read_key(tmp_path / "pipe")


def test_a_key_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    really = Ed25519PrivateKey.generate

    def generate():
        (tmp_path / "key").write_text("another one")
        return really()

    monkeypatch.setattr(Ed25519PrivateKey, "generate", generate)
    with pytest.raises(ConflictError, match="key: exists"):
        write_new_key(tmp_path / "key")
    assert (tmp_path / "key").read_text() == "another one"
    assert write_new_key(tmp_path / "key", force=True).public


def test_a_key_that_is_there_is_not_replaced(tmp_path):
    made = write_new_key(tmp_path / "k")
    content = (tmp_path / "k").read_bytes()
    with pytest.raises(ConflictError, match="is lost"):
        write_new_key(tmp_path / "k")
    assert (tmp_path / "k").read_bytes() == content
    assert write_new_key(tmp_path / "k", force=True).public != made.public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519:",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",  # 31 bytes
        "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=",  # the same bytes, spelt otherwise
        "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "rsa:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "ed25519:ÄAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        None,
        7,
    ],
)
def test_a_public_key_has_one_spelling(text):
    with pytest.raises(UsageError, match="here: expected a public key"):
        check_public_key(text, "here")


def test_without_cryptography_it_is_said_what_to_install(tmp_path, monkeypatch):
    made = write_new_key(tmp_path / "k")
    hidden = [name for name in sys.modules if name.split(".")[0] == "cryptography"]
    for name in (*hidden, "cryptography"):
        monkeypatch.setitem(sys.modules, name, None)
    needs: list[Callable[[], object]] = [
        lambda: write_new_key(tmp_path / "other"),
        lambda: read_key(tmp_path / "k"),
        lambda: verifies(made.public, b"", "A" * 86 + "=="),
    ]
    for need in needs:
        with pytest.raises(MissingDependencyError) as caught:
            need()
        assert caught.value.hint == "pip install 'fedcli[sign]'"
    assert not (tmp_path / "other").exists()
    assert check_public_key(made.public, "here") == made.public


def test_a_file_has_a_key_to_mask_with_behind_the_one_to_sign_with(tmp_path):
    made = write_key_file(tmp_path / "k", outside=ELSEWHERE)
    again = read_key_file(tmp_path / "k", outside=ELSEWHERE)
    assert again.public == made.public
    assert made.public.masking is not None
    write_private(tmp_path / "two", signing_pem() + masking_pem())
    other = read_key_file(tmp_path / "two", outside=ELSEWHERE).public.masking
    assert other is not None
    assert other != made.public.masking


def test_a_file_for_signatures_only_is_still_one(tmp_path):
    found = read_key_file(write_private(tmp_path / "k", signing_pem()), outside=ELSEWHERE)
    assert found.public == (read_key(tmp_path / "k").public, None)
    assert found.public.line == found.public.signing


@pytest.mark.parametrize("second", ["", "ed25519:", "x25519:AAAA", "x25519", "x25519:,"])
def test_a_line_names_no_second_key_or_a_valid_one(second):
    first = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    assert public_keys(first, "here") == (first, None)
    with pytest.raises(UsageError, match="here: expected a public key"):
        public_keys(f"{first},{second}", "here")


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = execute(["keygen", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_keygen_prints_one_line_that_init_takes(cli):
    status, out, err = cli("mercy.key")
    assert (status, err) == (0, "mercy.key: a private key; keep it to yourself\n")
    assert out.count("\n") == 1
    keys = public_keys(out.strip(), "here")
    assert keys.signing == read_key(Path("mercy.key")).public
    assert keys.masking is not None
    assert keys.line == out.strip()
    assert cli("mercy.key", "--show") == (0, out, "")
    status, shown, _ = cli("mercy.key", "--show", "--json")
    assert json.loads(shown) == {
        "schema": 1, "command": "keygen", "path": "mercy.key", "public": out.strip(), "made": False,
    }  # fmt: skip


def test_keygen_has_a_file_of_its_own_name(cli):
    assert cli("--quiet")[0] == 0
    assert Path("fedcli.key").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["here.key"], 5, "here.key: exists"),
        (["fedrun/x.key"], 2, "fedrun/x.key: is in the run directory, which others read"),
        (["--run", "."], 2, "fedcli.key: is in the run directory, which others read"),
        (["here.key", "--show", "--run", "."], 2, "here.key: is in the run directory"),
        (["here.key", "--show", "--force"], 2, "--force: has no meaning with --show"),
        (["nowhere.key", "--show"], 3, "nowhere.key: no such file"),
        (["wide.key", "--show"], 4, "wide.key: expected mode 0600, found 0644"),
        (["no/such\x1bfolder/../x", "--show"], 3, "no such file"),
    ],
)
def test_what_keygen_refuses(cli, arguments, status, says):
    write_new_key(Path("here.key"))
    write_new_key(Path("wide.key")).path.chmod(0o644)
    found, out, err = cli(*arguments)
    assert (found, out) == (status, "")
    assert says in err
    assert "\x1b" not in err
