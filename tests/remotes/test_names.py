"""Names of remotes: no credentials in them, no unknown hosts, and none inside the run."""

from pathlib import Path

import pytest
from support.daemons import Server
from support.remote_runs import COORDINATOR, Study

from fedcli.errors import StorageError, UsageError
from fedcli.formats.remote_names import check_remote_name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("simplecache::s3://b/x", "found a chain of them"),
        ("xyz://b/x", "xyz"),
        ("SFTP://mercy@host/x", "expected 'sftp://mercy@host/x', found 'SFTP://"),
        ("mercy@host:/srv/study", "expected a folder, a URL such as sftp://host/srv/study"),
        ("s3:/bucket/x", "expected a folder, a URL"),
        ("s3://b/x.zip", "a bundle is a file of this machine"),
        ("sftp:///srv/study", "expected a host or a bucket after sftp://"),
        ("s3://", "expected a host or a bucket after s3://"),
    ],
)
def test_a_name_that_cannot_be_a_remote(study: Study, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"REMOTE.*{reason}"):
        study.push(COORDINATOR, name)
    assert not (study.root(COORDINATOR) / "receipts.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("sftp://mercy@host/srv", "ssh://mercy@host:22/srv/a@b", "sftp://mercy@[::1]:22/srv"),
        *("sftp://host:22/a@b", "hdfs://host:9000/a@b", "s3://bucket/a@b", "file:///srv/a@b:c"),
        *("s3://arn:aws:s3:eu-west-1:1:accesspoint/study", "C:/srv", "./mercy@host:x"),
    ],
)
def test_a_name_without_credentials_is_a_remote(name: str) -> None:
    assert check_remote_name(name, "REMOTE") == name


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
    with pytest.raises(StorageError, match="Host key is not trusted") as caught:
        study.push(COORDINATOR, f"{sftp.url}/stranger")
    assert str(caught.value.hint).endswith(f"which this may show: sftp {sftp.url}/stranger")
    assert sftp.disk is not None
    assert not (sftp.disk / "stranger").exists()
