"""Names of remotes: no credentials in them, no unknown hosts, and none inside the run."""

from pathlib import Path

import pytest
from support.daemons import Server
from support.remote_runs import COORDINATOR, Study

from fedcli.errors import StorageError, UsageError


@pytest.mark.parametrize(
    "name",
    [
        "s3://key:secret@bucket/x",
        "https://host/x?token=secret",
        "simplecache::s3://b/x",
        "xyz://b/x",
    ],
)
def test_a_name_that_cannot_be_a_remote(study: Study, name: str) -> None:
    with pytest.raises(UsageError, match="REMOTE") as caught:
        study.push(COORDINATOR, name)
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert not (study.root(COORDINATOR) / "receipts.json").exists()


def test_a_remote_in_the_run_is_refused(study: Study) -> None:
    with pytest.raises(UsageError, match="is the run directory itself, or a folder in it"):
        study.push(COORDINATOR, study.root(COORDINATOR) / "share")


def test_a_host_whose_key_is_not_known_gets_nothing(
    study: Study, sftp: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Path(sftp.environment["HOME"], ".ssh")
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_bytes((keys / "id_ed25519").read_bytes())
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(StorageError, match="Host key is not trusted"):
        study.push(COORDINATOR, f"{sftp.url}/stranger")
    assert sftp.disk is not None
    assert not (sftp.disk / "stranger").exists()
