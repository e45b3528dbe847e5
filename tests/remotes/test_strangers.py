"""Whoever can write to a remote: no name, link or heap of junk there does harm."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.places import Place
from support.remote_runs import CLIENTS, COORDINATOR, Study, names
from support.runs import run_info

from fedcli.errors import BadInputError, FedcliError
from fedcli.remotes.folder import FolderRemote
from fedcli.remotes.remote import Entry
from fedcli.run import Run

Cli = Callable[..., tuple[int, str, str]]
UPDATES = "rounds/0001/updates"
UPDATE = ("json", "sig", "safetensors")
JUNK = [
    *("..safetensors", "CON.safetensors", "Mercy.safetensors", "0.SAFETENSORS", "9.safetensors"),
    *("0.safetensors.tmp", "\\..\\0.safetensors", "0 .safetensors"),
]


def sent(study: Study, place: Place, *clients: str) -> None:
    study.push(COORDINATOR, place.name)
    for client in clients:
        study.pull(client, place.name)
        study.train(client)
        study.push(client, place.name)


@pytest.mark.parametrize("place", ["folder", "s3", "sftp"], indirect=True)
def test_junk_beside_updates_is_left_there(study: Study, place: Place) -> None:
    sent(study, place, *CLIENTS)
    for name in JUNK:
        place.write(f"{UPDATES}/{name}", b"junk")
    for name in ("data/client-1.safetensors", "rounds/99999/x", "copy.json"):
        place.write(name, b"junk")
    before = set(names(study.root(COORDINATOR)))
    study.pull(COORDINATOR, place.name)
    new = set(names(study.root(COORDINATOR))) - before - {"receipts.json"}
    assert new == {f"{UPDATES}/{c}.{what}" for c in CLIENTS for what in UPDATE}
    study.pull("0", place.name)
    assert not (study.root("0") / "data").exists()


def test_a_heap_of_junk_files_is_not_read(
    study: Study, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(study, place, "0")
    for number in range(1000):
        (Path(place.name) / UPDATES / f"junk-{number}.safetensors").touch()
    read: list[str] = []
    pieces = FolderRemote.pieces

    def counted(self: FolderRemote, path: str, entry: Entry) -> Iterator[bytes]:
        read.append(path)
        return pieces(self, path, entry)

    monkeypatch.setattr(FolderRemote, "pieces", counted)
    assert study.pull(COORDINATOR, place.name).missing == ("1", "2")
    assert not [path for path in read if "junk" in path]


@pytest.mark.parametrize("name", ["safetensors", "sig"])
def test_a_link_in_a_folder_is_not_followed(study: Study, place: Place, name: str) -> None:
    """A link would fetch a file that the sender cannot read, but who pulls can."""
    sent(study, place, "0")
    update = Path(place.name) / UPDATES / f"0.{name}"
    secret = study.folder / "secret"
    update.rename(secret)
    update.symlink_to(secret)
    with pytest.raises(FedcliError, match=r"0\.") as caught:
        study.pull(COORDINATOR, place.name)
    assert caught.value.status == 4
    assert study.run(COORDINATOR).round(1).delivered() == []


@pytest.mark.parametrize("folder", ["rounds", "rounds/0001", "rounds/0001/updates"])
def test_a_folder_that_is_a_link_gives_nothing_unchecked(
    study: Study, place: Place, folder: str
) -> None:
    """Whatever it leads to, only updates of this run with their signatures are placed."""
    sent(study, place, "0")
    there, elsewhere = Path(place.name) / folder, study.folder / "elsewhere"
    there.rename(elsewhere)
    there.symlink_to(elsewhere)
    for path in elsewhere.rglob("0.safetensors"):
        path.write_bytes(b"-----BEGIN PRIVATE KEY-----")
    with pytest.raises(BadInputError):
        study.pull(COORDINATOR, place.name)
    assert study.run(COORDINATOR).round(1).delivered() == []
    assert not any(b"PRIVATE" in (study.root(COORDINATOR) / n).read_bytes()
                   for n in names(study.root(COORDINATOR)))  # fmt: skip


@pytest.mark.parametrize("place", ["folder", "bundle", "s3", "sftp"], indirect=True)
def test_an_attackers_copy_has_nothing_of_others(study: Study, place: Place) -> None:
    """Every byte of a client's copy is searched for what only others or the coordinator have."""
    root = study.root(COORDINATOR)
    sent(study, place, *CLIENTS)
    for name in ("data/client-1.safetensors", "rounds/0000/client_state/1.safetensors"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"data of client 1")
        place.write(name, b"data of client 1")
    study.pull(COORDINATOR, place.name)
    study.aggregate()
    study.push(COORDINATOR, place.name)
    study.pull("0", place.name)
    held = {name: (study.root("0") / name).read_bytes() for name in names(study.root("0"))}
    foreign = [(study.root(c) / f"{UPDATES}/{c}.{what}").read_bytes()
               for c in "12" for what in UPDATE]  # fmt: skip
    assert not set(foreign) & set(held.values())
    assert not [name for name, data in held.items() if b"data of client" in data]
    mine = {f"{UPDATES}/0.{what}" for what in UPDATE}
    models = {f"rounds/000{n}/global.{what}" for n in (0, 1) for what in ("sig", "safetensors")}
    assert set(held) - {"receipts.json"} == {"run.json", "copy.json", *mine, *models}


SECRETS = [
    *("s3://key:hunter2@bucket/x", "s3://hunter2@bucket", "S3://key:hunter2@bucket/x"),
    *("sftp://mercy:hunter2@127.0.0.1/srv", "sftp://mercy%3Ahunter2@127.0.0.1/srv"),
    *("sftp://mercy:hunter2@127.0.0.1/srv@home", "sftp://mercy:a/hunter2@127.0.0.1/srv"),
    *("https://host/x?token=hunter2", "https://hunter2@host", "ftp://:hunter2@host/x"),
    *("s3://key:hunter2@buc\nket", "simplecache::s3://hunter2@b", "zip://a/b::s3://hunter2@b"),
    *("mercy:hunter2@host:/srv", "s3:/key:hunter2@bucket"),
]


@pytest.mark.parametrize("command", ["push", "pull", "init"])
def test_credentials_in_a_url_are_refused_and_shown_nowhere(
    study: Study, cli: Cli, command: str
) -> None:
    root, new = study.root(COORDINATOR), study.folder / "new"
    making = ("init", "--run", new, "--classes", "a,b", "--model", "linear", "--remote")
    for url in SECRETS:
        words = {
            "push": ("push", url, "--run", root),
            "pull": ("pull", url, "--run", root),
            "init": (*making, url),
        }[command]
        for extra in ((), ("--json",), ("--debug",)):
            status, printed, said = cli(*words, *extra)
            assert status == 2, url
            assert "hunter2" not in printed + said
            if extra == ("--json",):
                assert json.loads(printed)["error"]["kind"] == "usage"
            if extra == ():
                assert "error hint".startswith(" ".join(w.split(":")[0] for w in said.splitlines()))
        assert not new.exists()
        assert not any(b"hunter2" in (root / name).read_bytes() for name in names(root))


def test_a_run_that_names_a_secret_is_read_but_not_sent(tmp_path: Path, cli: Cli) -> None:
    """An older fedcli let a token stand in ``run.json`` as the user name of a URL."""
    Run.create(tmp_path, replace(run_info(), remote="https://hunter2@host/x"))
    for command in ("push", "pull"):
        status, printed, said = cli(command, "--run", tmp_path)
        assert (status, "remote in" in said, "hunter2" in printed + said) == (2, True, False)
    assert Run.open(tmp_path).info.remote is not None


def test_two_parties_meet_in_fsspecs_memory(study: Study) -> None:
    """A protocol without a store's own refusal: looked at, sent aside, renamed."""
    import fsspec

    remote = f"memory://{study.folder.name}"
    study.push(COORDINATOR, remote)
    study.round(remote)
    study.pull("0", remote)
    assert study.run("0").latest_round().number == 1
    for party in (COORDINATOR, "0"):
        assert study.push(party, remote).already_done
    system = fsspec.filesystem("memory")
    assert not [name for name in system.find(f"/{study.folder.name}") if name.endswith(".tmp")]
    update = f"/{study.folder.name}/{UPDATES}/0.safetensors"
    system.pipe_file(update, system.cat_file(update)[:-1] + b"x")
    with pytest.raises(FedcliError, match="is another file than") as caught:
        study.push("0", remote)
    assert caught.value.status == 5
