"""The places that runs are sent to: a folder, one file, an S3 store and an SSH server."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.daemons import Server, s3_server, ssh_server
from support.places import DiskPlace, Place, StorePlace, ZipPlace
from support.remote_runs import Study, signed_study


def _kept(server: AbstractContextManager[Server]) -> Iterator[Server]:
    with server as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _kept(s3_server(tmp_path_factory.mktemp("s3")))


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _kept(ssh_server(tmp_path_factory.mktemp("ssh")))


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty remote of the kind that is asked for."""
    kind = getattr(request, "param", "folder")
    if kind == "folder":
        return DiskPlace(str(tmp_path / "share"), tmp_path / "share")
    if kind == "bundle":
        return ZipPlace(tmp_path / "share.zip")
    server: Server = request.getfixturevalue(kind)
    name = f"{server.url}/{tmp_path.name}"
    if server.disk is None:
        return StorePlace(name)
    return DiskPlace(name, server.disk / tmp_path.name)


@pytest.fixture
def study(tmp_path: Path, unsynced: None) -> Study:
    """A signed study, whose coordinator has round 0."""
    return signed_study(tmp_path)
