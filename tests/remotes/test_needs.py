"""What travels is what is needed: parties apart make the same models as in one directory."""

import shutil
from pathlib import Path

import pytest
from support.masked_runs import MEMBERS, ONE_THREAD, MaskedRun, give_data, masked_run, plain_run
from support.places import Place
from support.remote_runs import names

from fedcli.errors import NotReadyError
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.setup.start import Start
from fedcli.steps.aggregate import aggregate
from fedcli.steps.init import init
from fedcli.steps.pull import pull
from fedcli.steps.push import push
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import verify

pytestmark = pytest.mark.usefixtures("unsynced")

CLIENTS = ("a", "b", "c")
SMALL = {"epochs": 1, "batch_size": 16, "lr": 0.05}
ENCODED = {"encode": "topk=0.1", "feedback": 1.0}
PLANS = {
    "fedavg": (TrainPlan(**SMALL), AggregatePlan()),
    "scaffold": (
        TrainPlan(**SMALL).with_options({"algorithm": "scaffold"}),
        AggregatePlan(strategy="scaffold"),
    ),
    "encoded": (
        TrainPlan(**SMALL, **ENCODED),
        AggregatePlan(encode_global="int8", feedback_global=1.0),
    ),
}
TAKING_PART = {1: "abc", 2: "ab", 3: "abc"}  # c misses a round


def make(root: Path, plan: str) -> Run:
    """A run of three clients, whose data is elsewhere."""
    start = Start(ModelInfo("linear"), plan=Plan(*PLANS[plan]))
    init(root, ("x", "y"), clients=CLIENTS, image_size=8, start=start)
    return Run.open(root)


def train(run: Run, client: str) -> None:
    if not run.client_shard(client).exists():
        give_data(run, client)
    train_client(run, [client], execution=ONE_THREAD)


def in_one_directory(root: Path, plan: str) -> list[str]:
    """The SHA-256s of the global models of three rounds."""
    run, found = make(root, plan), []
    for clients in TAKING_PART.values():
        for client in clients:
            train(run, client)
        found.append(aggregate(run, min_clients=2).sha256)
    return found


@pytest.mark.parametrize("place", ["folder", "bundle"], indirect=True)
@pytest.mark.parametrize("plan", PLANS)
def test_parties_apart_make_the_same_models(tmp_path: Path, place: Place, plan: str) -> None:
    run, found = make(tmp_path / "coordinator", plan), []
    for number, clients in TAKING_PART.items():
        push(run, place.name)
        for client in clients:
            pull(tmp_path / client, [place.name], clients=[client])
            train(Run.open(tmp_path / client), client)
            push(Run.open(tmp_path / client), place.name)
        pull(run.root, [place.name])
        assert run.round(number).delivered() == list(clients)
        found.append(aggregate(run, min_clients=2).sha256)
    assert found == in_one_directory(tmp_path / "one", plan)
    assert all(verify(tmp_path / party).sound for party in ("coordinator", *CLIENTS))
    travelled = [name for name in place.names() if "/" in name]
    assert {name.split("/")[0] for name in travelled} == {"rounds"}
    assert not [name for name in travelled if "client_state" in name or "training" in name]


def test_deltas_travel_where_they_are_smaller(tmp_path: Path) -> None:
    run, share = make(tmp_path / "coordinator", "encoded"), str(tmp_path / "share")
    push(run, share)
    first = pull(tmp_path / "a", [share], clients=["a"])
    assert first.placed == ("run.json", "rounds/0000/global.delta.safetensors")
    train(Run.open(tmp_path / "a"), "a")
    push(Run.open(tmp_path / "a"), share)
    pull(run.root, [share])
    aggregate(run, min_clients=1)
    push(run, share)
    assert pull(tmp_path / "a", [share]).placed == ("rounds/0001/global.delta.safetensors",)
    whole = pull(tmp_path / "a", [share], whole=True)
    assert whole.placed == ("rounds/0001/global.safetensors",)


def test_a_bundle_of_deltas_says_what_it_cannot_begin_with(tmp_path: Path) -> None:
    run, share = make(tmp_path / "coordinator", "encoded"), str(tmp_path / "share")
    push(run, share)
    for _ in range(2):
        pull(tmp_path / "a", [share], clients=["a"])
        train(Run.open(tmp_path / "a"), "a")
        push(Run.open(tmp_path / "a"), share)
        pull(run.root, [share])
        aggregate(run, min_clients=1)
        push(run, share)
    bundle = str(tmp_path / "for-a.zip")
    sent = push(run, bundle, clients=["a"]).sent
    assert sent == ("run.json", "rounds/0002/global.delta.safetensors")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(
        NotReadyError, match="can only be rebuilt from deltas, and this copy has no"
    ):
        pull(tmp_path / "a", [bundle])
    sent = push(run, str(tmp_path / "whole.zip"), clients=["a"], whole=True).sent
    assert sent == ("run.json", "rounds/0002/global.safetensors")
    assert pull(tmp_path / "a", [str(tmp_path / "whole.zip")]).placed[-1] == sent[-1]


@pytest.mark.parametrize("place", ["folder", "bundle"], indirect=True)
def test_a_masked_round_of_parties_apart(tmp_path: Path, place: Place) -> None:
    made = masked_run(tmp_path)
    for client in MEMBERS:
        made.run.client_shard(client).unlink()
    push(made.run, place.name)
    copies = {}
    for client in MEMBERS:
        pull(tmp_path / client, [place.name], clients=[client])
        copies[client] = MaskedRun(Run.open(tmp_path / client), made.keys)
        give_data(copies[client].run, client)
    for client in "abc":
        copies[client].train(client)
        assert push(copies[client].run, place.name).sent[1:] == tuple(
            f"rounds/0001/updates/{client}.{what}" for what in ("sig", "shares", "safetensors")
        )
    assert pull(made.run.root, [place.name]).missing == ("d",)
    made.close()
    push(made.run, place.name)
    for client in "bcd":
        arrived = pull(tmp_path / client, [place.name])
        assert arrived.placed[-1] == "rounds/0001/survivors.json"
        assert f"unmask --id {client}" in arrived.next
        copies[client].unmask(client)
        assert push(copies[client].run, place.name).sent == (f"rounds/0001/unmask/{client}.json",)
    arrived = pull(made.run.root, [place.name])
    assert (len(arrived.placed), arrived.missing) == (3, ())
    apart = made.aggregate().sha256
    others = [name for name in names(tmp_path / "b") if name.endswith(("a.safetensors", "a.sig"))]
    assert others == []
    (tmp_path / "one").mkdir()
    assert masked_run(tmp_path / "one").finish("abc", "bcd").sha256 == apart


def test_plain_updates_say_no_more_than_they_did(tmp_path: Path) -> None:
    """A client's update in its copy has the bytes of one in the coordinator's directory."""
    run = plain_run(tmp_path)
    push(run, str(tmp_path / "share"))
    pull(tmp_path / "a", [str(tmp_path / "share")], clients=["a"])
    copy = Run.open(tmp_path / "a")
    for one in (run, copy):
        give_data(one, "a")
        train_client(one, ["a"], execution=ONE_THREAD)
    assert copy.round(1).update("a").read_bytes() == run.round(1).update("a").read_bytes()
