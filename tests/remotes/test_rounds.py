"""A federation whose parties have directories of their own, and meet at a remote."""

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier

import pytest
from support.daemons import Server
from support.places import DiskPlace, Place
from support.remote_runs import CLIENTS, COORDINATOR, Study, names

from fedcli.errors import BadInputError, StorageError
from fedcli.remotes import fetching
from fedcli.remotes.network import NetworkRemote
from fedcli.remotes.remote import Advance, Entry
from fedcli.remotes.transfer import Transfer
from fedcli.run import Run
from fedcli.steps.verify import verify

each_place = pytest.mark.parametrize("place", ["folder", "s3", "sftp"], indirect=True)
UPDATE = ("json", "sig", "safetensors")
ROUND = ("aggregate.json", "global.sig", "global.safetensors")


def of_others(study: Study, client: str) -> list[str]:
    """The files in a client's copy that have another client's name."""
    others = set(CLIENTS) - {client}
    found = names(study.root(client))
    return [name for name in found if others & set(name.split("/")[-1].split("."))]


@each_place
def test_a_round_of_three_clients_and_a_coordinator(study: Study, place: Place) -> None:
    assert study.push(COORDINATOR, place.name).sent == (
        "run.json",
        "rounds/0000/global.sig",
        "rounds/0000/global.safetensors",
    )
    for client in CLIENTS:
        study.pull(client, place.name)
        study.train(client)
        sent = study.push(client, place.name).sent
        assert sent == tuple(f"rounds/0001/updates/{client}.{what}" for what in UPDATE)
    arrived = study.pull(COORDINATOR, place.name)
    assert (arrived.round, arrived.missing) == (1, ())
    study.aggregate()
    sent = study.push(COORDINATOR, place.name).sent
    assert sent == tuple(f"rounds/0001/{name}" for name in ROUND)
    assert verify(study.root(COORDINATOR)).sound
    for client in CLIENTS:
        study.pull(client, place.name)
        assert verify(study.root(client)).sound
        assert study.run(client).latest_round().number == 1
        assert of_others(study, client) == []
    assert all(name in names(study.root(COORDINATOR)) for name in place.names())


@each_place
def test_repeating_moves_nothing(study: Study, place: Place) -> None:
    study.push(COORDINATOR, place.name)
    study.round(place.name)
    for party in (COORDINATOR, "0"):
        study.pull(party, place.name)
        for again in (study.push(party, place.name), study.pull(party, place.name)):
            assert (again.bytes, again.already_done) == (0, True)


@pytest.mark.parametrize("place", ["s3", "sftp"], indirect=True)
def test_updates_come_several_at_a_time_and_are_placed_in_order(
    study: Study, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.push(COORDINATOR, place.name)
    for client in CLIENTS:
        study.pull(client, place.name)
        study.train(client)
        study.push(client, place.name)
    place.write("rounds/0001/updates/1.safetensors", b"not a model")
    three, pieces = Barrier(3, timeout=60), NetworkRemote.pieces

    def together(self: NetworkRemote, path: str, entry: Entry) -> Iterator[bytes]:
        if "/updates/" in path:
            three.wait()
        return pieces(self, path, entry)

    monkeypatch.setattr(NetworkRemote, "pieces", together)
    placed: list[str] = []
    monkeypatch.setattr(Transfer, "add", lambda self, path: placed.append(path))
    with pytest.raises(BadInputError, match=r"updates/1\.safetensors"):
        study.pull(COORDINATOR, place.name)
    good = [f"rounds/0001/updates/{client}.{what}" for client in "02" for what in UPDATE]
    assert placed == good


def crew(study: Study, place: Place) -> Run:
    """A copy of all clients, which have trained."""
    study.push(COORDINATOR, place.name)
    study.pull("crew", place.name, clients=CLIENTS)
    for client in CLIENTS:
        study.train(client, copy="crew")
    return study.run("crew")


@pytest.mark.parametrize("place", ["s3", "sftp"], indirect=True)
def test_updates_go_several_at_a_time_and_after_what_belongs_to_them(
    study: Study, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew(study, place)
    three, create, found = Barrier(3, timeout=60), NetworkRemote.create, []

    def together(self: NetworkRemote, path: str, source: Path, advance: Advance) -> None:
        three.wait()  # six files at a time, and then three
        if path.endswith(".safetensors"):
            found.append(place.names())
        create(self, path, source, advance)

    monkeypatch.setattr(NetworkRemote, "create", together)
    sent = study.push("crew", place.name).sent
    companions = {f"rounds/0001/updates/{c}.{what}" for c in CLIENTS for what in UPDATE[:2]}
    assert (set(sent[:6]), len(sent), len(found)) == (companions, 9, 3)
    assert all(companions <= set(names) for names in found)
    assert study.push("crew", place.name).already_done


def test_an_interrupt_ends_what_is_under_way(
    study: Study, sftp: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever types Ctrl-C waits for no large file, and no half of one stays."""
    place = DiskPlace(f"{sftp.url}/interrupted", Path(str(sftp.disk), "interrupted"))
    crew(study, place)
    before, advance, started = place.names(), Transfer.advance, Barrier(6, timeout=60)

    def interrupted(self: Transfer, count: int) -> None:
        if started.wait() == 0:
            os.kill(os.getpid(), signal.SIGINT)
        while not self.is_stopped:
            time.sleep(0.01)
        advance(self, count)

    monkeypatch.setattr(Transfer, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.push("crew", place.name)
    assert place.names() == before


def test_a_full_disk_here_is_not_blamed_on_the_remote(
    study: Study, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.push(COORDINATOR, place.name)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching, "write_pieces", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        study.pull("0", place.name)
    name = str(study.root("0") / "rounds/0000/global.s")
    assert name in str(caught.value)
    assert place.name not in str(caught.value)
