"""Keys of the digests of examples: where they come from, and what a digest depends on."""

import base64
import hashlib
import hmac
import re
import stat
from pathlib import Path
from threading import Barrier, Thread

import pytest
from support.masked_runs import key_file as member_file
from support.masked_runs import private_keys

from fedcli.errors import BadInputError, StorageError, UsageError
from fedcli.security.examples_key import ExamplesKey, key_file
from fedcli.security.keys import SigningKey
from fedcli.security.secret_streams import hkdf

RUN = Path("fedrun")
EXAMPLES = hashlib.sha256(b"pictures").hexdigest()


def digest(key: ExamplesKey) -> str:
    return key.digest("run", 1, "a", EXAMPLES)


def test_a_digest_is_the_hmac_of_the_examples_in_their_place() -> None:
    secret = hashlib.sha256(b"fedcli examples\0run").digest()
    message = f"run\x001\x00a\x00{EXAMPLES}".encode()
    assert digest(ExamplesKey.of_simulation("run")) == hmac.digest(secret, message, "sha256").hex()


@pytest.mark.parametrize(
    "other", [("other", 1, "a"), ("run", 2, "a"), ("run", 1, "b"), ("run", 1, "a", "0" * 64)]
)
def test_the_same_examples_have_another_digest_elsewhere(other: tuple[str, int, str]) -> None:
    key = ExamplesKey.of_simulation("run")
    assert key.digest(*(*other, EXAMPLES)[:4]) != digest(key)


def test_a_member_derives_it_from_its_private_key(tmp_path: Path) -> None:
    key = ExamplesKey.of_member(SigningKey.of(member_file(tmp_path, "a")))
    secret = hkdf(private_keys("a")[0], b"fedcli examples", 32)
    message = f"run\x001\x00a\x00{EXAMPLES}".encode()
    assert digest(key) == hmac.digest(secret, message, "sha256").hex()
    other = ExamplesKey.of_member(SigningKey.of(member_file(tmp_path, "b")))
    assert digest(other) != digest(key)


def test_a_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "examples.key"
    made = ExamplesKey.of_file(path, outside=RUN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert re.fullmatch(r"examples:[A-Za-z0-9+/]{43}=\n", text)
    assert ExamplesKey.of_file(path, outside=RUN) == made
    assert path.read_text() == text
    assert ExamplesKey.of_file(tmp_path / "other", outside=RUN) != made
    assert base64.b64decode(text.removeprefix("examples:")) not in repr(made).encode()
    assert text.removeprefix("examples:").strip() not in repr(made)


def test_commands_that_start_together_use_one_key(tmp_path: Path) -> None:
    together, found = Barrier(8), []

    def use() -> None:
        together.wait()
        found.append(digest(ExamplesKey.of_file(tmp_path / "k", outside=RUN)))

    threads = [Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_file_that_is_no_key_or_that_others_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    for text in ("", "noise:" + "A" * 43 + "=\n", "examples:AAAA\n"):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(BadInputError, match="expected a key of digests") as caught:
            ExamplesKey.of_file(path, outside=RUN)
        assert "AAAA" not in f"{caught.value}{caught.value.hint}"
    path.chmod(0o644)
    with pytest.raises(BadInputError, match="expected mode 0600"):
        ExamplesKey.of_file(path, outside=RUN)
    with pytest.raises(UsageError, match="is in the run directory"):
        ExamplesKey.of_file(path, outside=tmp_path)
    with pytest.raises(StorageError):
        ExamplesKey.of_file(path / "below a file", outside=RUN)


def test_the_file_is_in_the_clients_folder_and_never_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "fedrun"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    settings = tmp_path / "settings/fedcli/examples.key"
    assert key_file(tmp_path / "mine", outside=run) == tmp_path / "mine/examples.key"
    assert key_file(None, outside=run) == key_file(run / "mine", outside=run) == settings
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_file(None, outside=run) == tmp_path / ".config/fedcli/examples.key"

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UsageError, match="--state: there is no home directory"):
        key_file(None, outside=run)
