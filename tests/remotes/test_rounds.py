"""A federation whose parties have directories of their own, and meet at a remote."""

import pytest
from support.remote_runs import CLIENTS, COORDINATOR, Study, names

from fedcli.steps.verify import verify

each_remote = pytest.mark.parametrize("remote", ["folder", "s3", "sftp"], indirect=True)
UPDATE = ("json", "sig", "safetensors")
ROUND = ("aggregate.json", "global.sig", "global.safetensors")


def of_others(study: Study, client: str) -> list[str]:
    """The files in a client's copy that have another client's name."""
    others = set(CLIENTS) - {client}
    return [
        name for name in names(study.root(client)) if others & set(name.split("/")[-1].split("."))
    ]


@each_remote
def test_a_round_of_three_clients_and_a_coordinator(study: Study, remote: str) -> None:
    assert study.push(COORDINATOR, remote).sent == (
        "run.json",
        "rounds/0000/global.sig",
        "rounds/0000/global.safetensors",
    )
    for client in CLIENTS:
        study.pull(client, remote)
        study.train(client)
        sent = study.push(client, remote).sent
        assert sent == tuple(f"rounds/0001/updates/{client}.{what}" for what in UPDATE)
    arrived = study.pull(COORDINATOR, remote)
    assert (arrived.round, arrived.missing) == (1, ())
    study.aggregate()
    sent = study.push(COORDINATOR, remote).sent
    assert sent == tuple(f"rounds/0001/{name}" for name in ROUND)
    assert verify(study.root(COORDINATOR)).sound
    for client in CLIENTS:
        study.pull(client, remote)
        assert verify(study.root(client)).sound
        assert study.run(client).latest_round().number == 1
        assert of_others(study, client) == []


@each_remote
def test_repeating_moves_nothing(study: Study, remote: str) -> None:
    study.push(COORDINATOR, remote)
    study.round(remote)
    for party in (COORDINATOR, *CLIENTS):
        study.pull(party, remote)
        for again in (study.push(party, remote), study.pull(party, remote)):
            assert (again.bytes, again.already_done) == (0, True)
