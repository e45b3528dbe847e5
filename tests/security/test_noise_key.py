"""Noise keys: their files, what names them, and the streams that follow from them."""

import base64
import hashlib
import json
import stat
from pathlib import Path

import numpy as np
import pytest

from fedcli.cli import execute
from fedcli.errors import BadInputError, ConflictError, NotReadyError, UsageError
from fedcli.security.noise_key import NoiseKey, read_noise_key, write_noise_key
from fedcli.security.secret_streams import SecretStreams, hkdf, key_stream

ELSEWHERE = Path("elsewhere")
SECRET = bytes(range(32))


def test_a_key_that_was_made_is_read_and_is_its_owners_alone(tmp_path: Path) -> None:
    made = write_noise_key(tmp_path / "k", outside=ELSEWHERE)
    found = read_noise_key(tmp_path / "k", outside=ELSEWHERE)
    assert found == made
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    secret = base64.b64decode((tmp_path / "k").read_text().removeprefix("noise:"))
    assert len(secret) == 32
    assert found.commitment == hashlib.sha256(secret).hexdigest()
    for shown in (repr(found), str(found), repr(found.streams("run", 1, "inputs"))):
        assert str(secret) not in shown
        assert base64.b64encode(secret).decode() not in shown
    assert write_noise_key(tmp_path / "other", outside=ELSEWHERE) != made


def test_a_key_is_not_replaced_unless_forced_nor_kept_in_the_run(tmp_path: Path) -> None:
    made = write_noise_key(tmp_path / "k", outside=ELSEWHERE)
    with pytest.raises(ConflictError, match="exists"):
        write_noise_key(tmp_path / "k", outside=ELSEWHERE)
    assert write_noise_key(tmp_path / "k", outside=ELSEWHERE, force=True) != made
    for use in (read_noise_key, write_noise_key):
        with pytest.raises(UsageError, match="is in the run directory"):
            use(tmp_path / "k", outside=tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"noise:", b"noise:AAAA\n", b"\xff\xfe", b"ed25519:" + base64.b64encode(SECRET)]
    + [b"noise:" + base64.b64encode(SECRET) + end for end in (b"=", b"\n\n", b" ")],
)
def test_no_noise_key_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k").write_bytes(content)
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(BadInputError, match="expected a noise key") as caught:
        read_noise_key(tmp_path / "k", outside=ELSEWHERE)
    assert base64.b64encode(SECRET).decode() not in f"{caught.value}{caught.value.hint}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_key_that_others_can_read_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no such file"):
        read_noise_key(tmp_path / "k", outside=ELSEWHERE)
    write_noise_key(tmp_path / "k", outside=ELSEWHERE)
    (tmp_path / "k").chmod(0o640)
    with pytest.raises(BadInputError, match="expected mode 0600, found 0640"):
        read_noise_key(tmp_path / "k", outside=ELSEWHERE)


def test_keygen_prints_the_sha256_and_not_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "k"
    assert execute(["keygen", "--noise", str(path), "--json", "--run", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    secret = base64.b64decode(path.read_text().removeprefix("noise:"))
    public = f"sha256:{hashlib.sha256(secret).hexdigest()}"
    assert json.loads(said.out)["public"] == public
    assert execute(["keygen", "--noise", "--show", str(path), "--run", str(tmp_path / "run")]) == 0
    again = capsys.readouterr()
    assert again.out.strip() == public
    for text in (said.out, said.err, again.err):
        assert base64.b64encode(secret).decode() not in text
        assert secret.hex() not in text


def test_the_stream_is_chacha20() -> None:
    """RFC 8439, appendix A.1, test vectors 1 and 2: key, nonce and first counter are 0."""
    expected = bytes.fromhex(
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )
    assert bytes(key_stream(bytes(32), 128)) == expected
    assert bytes(key_stream(bytes(32), 5)) == expected[:5]
    long = key_stream(bytes(32), 2**20 + 7)  # longer than what is encrypted at once
    assert bytes(long[:128]) == expected
    assert len(set(np.frombuffer(long[: 2**20], "<u8").tolist())) == 2**17


def test_keys_are_derived_by_hkdf() -> None:
    """RFC 5869, appendix A.3: SHA-256, without salt and info."""
    found = hkdf(bytes([0x0B] * 22), b"", 42)
    assert found.hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_streams_differ_by_run_round_inputs_purpose_and_number() -> None:
    key = NoiseKey(Path("k"), SECRET)
    seen = [
        NoiseKey(Path("k"), bytes(32)).streams("run", 1, "in"),
        *(key.streams(*names) for names in (("run", 1, "in"), ("run", 2, "in"), ("ran", 1, "in"))),
        key.streams("run", 1, "other"),
    ]
    drawn = [
        one.words(purpose, n, 16).tobytes() for one in seen for purpose in "ab" for n in (0, 1)
    ]
    assert len(set(drawn)) == len(drawn) == 20
    assert len({one.seed("a") for one in seen}) == len(seen)
    again = key.streams("run", 1, "in").words("a", 0, 16).tobytes()
    assert again == seen[1].words("a", 0, 16).tobytes()
    assert 0 <= SecretStreams(SECRET).seed("x") < 2**63
