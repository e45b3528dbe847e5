"""``evaluate`` on the clients' own data, and of the models that are theirs alone."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.runs import run_info
from torch import Tensor, nn

from fedcli.errors import BadInputError, CheckpointError, NotReadyError
from fedcli.formats.checkpoint import digest, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.training_record import TrainingRecord
from fedcli.models.weights import initial_tensors
from fedcli.reporting.collect import collect
from fedcli.run import Run
from fedcli.run.client_state import StateStore
from fedcli.run.info import DatasetInfo, ModelInfo, RunInfo
from fedcli.steps.evaluate import evaluate
from fedcli.steps.status import status
from fedcli.training.augmentation import Normalize
from fedcli.training.devices import Portions
from fedcli.training.forward import predict

CLIENTS = ("0", "1", "2")
CLASSES = ("ant", "bee", "cat")
SHAPE = (1, 6, 6)
Arrays = dict[str, NDArray[Any]]
Cli = Callable[..., tuple[int, str, str]]


def examples(seed: int, count: int, classes: Sequence[int] = (0, 1, 2)) -> Arrays:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return {"x": x, "y": np.resize(np.array(classes, np.int64), count)}


def together(parts: Sequence[Arrays]) -> Arrays:
    return {key: np.concatenate([part[key] for part in parts]) for key in ("x", "y")}


TESTS = {client: examples(10 + int(client), 5 + 3 * int(client)) for client in CLIENTS}
VALIDATION = {client: examples(20 + int(client), 9) for client in CLIENTS}
COMMON = examples(30, 40)


def write_shard(run: Run, path: Path, values: Arrays) -> None:
    save(path, values, Metadata(Kind.SHARD, run.id, num_examples=len(values["y"])))


def weights(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    shapes = {"fc.weight": (3, 36), "fc.bias": (3,)}
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def logits(model: Arrays, x: NDArray[Any]) -> NDArray[Any]:
    """What the linear model of a run says, without torch."""
    inputs = ((x / 255 - 0.5) / 0.25).reshape(len(x), -1)
    result: NDArray[Any] = inputs @ model["fc.weight"].astype(float).T + model["fc.bias"]
    return result


def figures(model: Arrays, data: Arrays) -> dict[str, Any]:
    """Accuracy and loss of a model, without torch."""
    said, y = logits(model, data["x"]), data["y"]
    right = said[np.arange(len(y)), y]
    return {
        "examples": len(y),
        "accuracy": pytest.approx((said.argmax(1) == y).mean()),
        "loss": pytest.approx(np.mean(np.log(np.exp(said).sum(1)) - right), rel=1e-5),
    }


def assert_scores(entry: dict[str, Any], model: Arrays, data: Arrays) -> None:
    expected = figures(model, data)
    assert {key: entry[key] for key in expected} == expected


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsynced: None) -> Run:
    """A run of a linear model with two complete rounds and the clients' own test data."""
    monkeypatch.chdir(tmp_path)
    info = RunInfo(
        dataset=DatasetInfo("handmade", CLASSES, SHAPE),
        model=ModelInfo("linear"),
        seed=7,
        clients=CLIENTS,
        plan=run_info().plan,
        origin={},
    )
    run = Run.create(Path("fedrun"), info)
    assert initial_tensors(info.model, 3, SHAPE, 0).tensors.keys() == weights(0).keys()
    for number in range(3):
        write_global(run, number, weights(number))
    for client in CLIENTS:
        write_shard(run, run.client_test_shard(client), TESTS[client])
    return run


def write_global(run: Run, number: int, tensors: Arrays) -> None:
    save(run.round(number).global_model, tensors, Metadata(Kind.GLOBAL, run.id, round=number))


def described(run: Run, kind: Kind, number: int, client: str, training: Any = None) -> Metadata:
    base = digest(run.round(number - 1).global_model)
    record = TrainingRecord(options=training or {})
    return Metadata(kind, run.id, round=number, client=client, base=base, training=record)


def write_update(run: Run, number: int, client: str, tensors: Arrays, training: Any = None) -> None:
    path = run.round(number).update(client)
    save(path, tensors, described(run, Kind.UPDATE, number, client, training))


def write_state(
    run: Run,
    number: int,
    client: str,
    tensors: Arrays,
    path: Path | None = None,
    training: Any = None,
) -> None:
    path = path or run.round(number).client_state(client)
    save(path, tensors, described(run, Kind.CLIENT_STATE, number, client, training))


def slot(name: str, tensors: Arrays) -> Arrays:
    return {f"{name}/{key}": value for key, value in tensors.items()}


def timeless(entries: Sequence[dict[str, Any]]) -> Any:
    """The entries as JSON, without what differs each time."""
    return json.loads(json.dumps([{**entry, "seconds": 0} for entry in entries]))


def names(entries: Sequence[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(entry["data"], entry["data_client"]) for entry in entries]


# on the clients' data

OWN = [("client-test", client) for client in CLIENTS]


def test_without_a_common_test_set_it_is_all_clients_together(run: Run) -> None:
    result = evaluate(run)
    pooled, *own = result.evaluations
    assert names(result.evaluations) == [("test", None), *OWN]
    assert_scores(pooled, weights(2), together(list(TESTS.values())))
    for entry in own:
        assert_scores(entry, weights(2), TESTS[entry["data_client"]])
    assert np.array_equal(pooled["confusion"], np.sum([one["confusion"] for one in own], axis=0))


def test_all_together_is_what_one_set_of_all_examples_gives(run: Run) -> None:
    (pooled,) = timeless(evaluate(run).evaluations[:1])
    write_shard(run, run.test_shard, together(list(TESTS.values())))
    (common,) = timeless(evaluate(run, force=True).evaluations)
    assert pooled.pop("loss") == pytest.approx(common.pop("loss"))
    assert pooled == common


def test_what_is_missing_is_computed_alone(run: Run) -> None:
    first = evaluate(run).evaluations
    path = run.round(2).evaluation
    values = json.loads(path.read_text())
    values["results"] = [one for one in values["results"] if one["data_client"] in ("0", "2")]
    path.write_text(json.dumps(values))
    again = evaluate(run)
    assert again.computed == 2
    assert timeless(again.evaluations) == timeless(first)
    assert evaluate(run).computed == 0
    assert evaluate(run, on_clients=True).computed == 0


def test_an_update_is_scored_on_its_own_clients_data_and_on_all(run: Run) -> None:
    for client in CLIENTS:
        write_update(run, 1, client, weights(100 + int(client)))
    found = evaluate(run, clients=["0,2"]).evaluations
    assert [entry["client"] for entry in found] == ["0", "0", "2", "2"]
    assert names(found) == [("test", None), OWN[0], ("test", None), OWN[2]]
    assert_scores(found[2], weights(102), together(list(TESTS.values())))
    assert_scores(found[3], weights(102), TESTS["2"])


def test_a_common_test_set_comes_first_and_clients_use_their_own(run: Run) -> None:
    write_shard(run, run.test_shard, COMMON)
    (entry,) = evaluate(run).evaluations
    assert_scores(entry, weights(2), COMMON)
    assert names(evaluate(run, on_clients=True).evaluations) == OWN


def test_clients_without_test_data_are_scored_on_held_out_examples(run: Run, cli: Cli) -> None:
    for client in CLIENTS:
        run.client_test_shard(client).unlink()
        write_shard(run, run.validation_shard(client), VALIDATION[client])
    found = evaluate(run, on_clients=True).evaluations
    assert names(found) == [("validation", client) for client in CLIENTS]
    assert_scores(found[1], weights(2), VALIDATION["1"])
    assert cli("evaluate")[0] == 3
    for client in CLIENTS:
        run.validation_shard(client).unlink()
    status, _, err = cli("evaluate", "--clients")
    assert status == 3
    assert "hint: create the run with: fedcli partition" in err


def test_a_client_without_the_classes_is_passed_over_and_said(run: Run, cli: Cli) -> None:
    write_shard(run, run.client_test_shard("1"), examples(40, 7, classes=[0, 2]))
    done, out, err = cli("evaluate", "--classes", "bee", "--json")
    assert done == 0
    assert "client-test of client 1: no examples to score on" in err
    entries = json.loads(out)["evaluations"]
    assert names(entries) == [("test", None), OWN[0], OWN[2]]
    assert entries[0]["examples"] == entries[1]["examples"] + entries[2]["examples"]
    for client in CLIENTS:
        write_shard(run, run.client_test_shard(client), examples(41, 7, classes=[0, 2]))
    assert cli("evaluate", "--classes", "bee", "--round", 1)[0] == 4
    assert not run.round(1).evaluation.exists()


# models that do not hold every tensor


def test_a_frozen_layer_of_an_update_is_that_of_its_base(run: Run) -> None:
    sent = weights(100)
    del sent["fc.weight"]
    write_update(run, 2, "1", sent, {"freeze": ["fc.weight"]})
    entry = evaluate(run, clients=["1"]).evaluations[1]
    assert_scores(entry, {**weights(1), **sent}, TESTS["1"])


def test_what_is_sent_beside_the_model_is_no_part_of_it(run: Run) -> None:
    write_update(run, 2, "1", {**weights(100), **slot("control", weights(101))})
    assert_scores(evaluate(run, clients=["1"]).evaluations[1], weights(100), TESTS["1"])


def test_a_local_layer_of_an_update_is_that_of_the_client(run: Run, cli: Cli) -> None:
    own, sent = weights(101), weights(100)
    del sent["fc.bias"]
    write_update(run, 2, "1", sent, {"local_layers": ["fc.bias"]})
    write_state(run, 1, "1", slot("local", {"fc.bias": weights(55)["fc.bias"]}))
    found, _, err = cli("evaluate", "--id", 1)
    assert found == 3
    assert "fc.bias and other layers stayed with the client" in err
    assert "--state DIR" in err
    state = slot("local", {"fc.bias": own["fc.bias"]})
    write_state(run, 2, "1", state)
    with pytest.raises(BadInputError, match="does not go with the update of client 1 of round 2"):
        evaluate(run, clients=["1"])
    write_state(run, 2, "1", state, training={"local_layers": ["fc.bias"]})
    entry = evaluate(run, clients=["1"]).evaluations[1]
    assert_scores(entry, {**sent, "fc.bias": own["fc.bias"]}, TESTS["1"])


# personal models


def test_a_model_with_local_layers_is_the_global_one_with_these_in_place(run: Run) -> None:
    biases = {client: weights(100 + int(client))["fc.bias"] for client in CLIENTS}
    for client in CLIENTS:
        write_state(run, 2, client, slot("local", {"fc.bias": biases[client]}))
    found = evaluate(run, personal=True).evaluations
    assert names(found) == OWN
    for entry in found:
        assert (entry["model"], entry["client"]) == ("personal", entry["data_client"])
        mine = {**weights(2), "fc.bias": biases[entry["client"]]}
        assert_scores(entry, mine, TESTS[entry["client"]])


def test_a_whole_model_of_its_own_does_not_depend_on_the_global_one(run: Run) -> None:
    write_state(run, 1, "2", slot("personal", weights(100)))
    found = evaluate(run, personal=True, rounds="all").evaluations
    assert [(entry["round"], entry["client"]) for entry in found] == [(1, "2"), (2, "2")]
    for entry in found:
        assert_scores(entry, weights(100), TESTS["2"])


def test_each_round_takes_the_newest_state_up_to_it(run: Run) -> None:
    write_global(run, 3, weights(3))
    for number in (1, 3):
        bias = weights(100 + number)["fc.bias"]
        write_state(run, number, "0", slot("local", {"fc.bias": bias}))
    write_state(run, 2, "1", slot("local", {"fc.bias": weights(102)["fc.bias"]}))
    write_state(run, 4, "0", slot("local", weights(104)))  # of the open round
    found = evaluate(run, personal=True, rounds="all").evaluations
    used = {(1, "0"): 101, (2, "0"): 101, (2, "1"): 102, (3, "0"): 103, (3, "1"): 102}
    assert [(entry["round"], entry["client"]) for entry in found] == sorted(used)
    for entry in found:
        number, client = entry["round"], entry["client"]
        mine = {**weights(number), "fc.bias": weights(used[number, client])["fc.bias"]}
        assert_scores(entry, mine, TESTS[client])
    only = evaluate(run, personal=True, rounds=2, clients=["1"]).evaluations
    assert timeless(only) == timeless(found[2:3])


def test_state_outside_of_the_run_is_read_from_there(run: Run, cli: Cli) -> None:
    path = StateStore(run, Path("mine")).path(2, "1")
    write_state(run, 2, "1", slot("personal", weights(100)), path)
    assert cli("evaluate", "--personal")[0] == 3
    done, out, _ = cli("evaluate", "--personal", "--state", "mine", "--id", 1)
    assert done == 0
    assert "personal model of client 1" in out
    (entry,) = json.loads(run.round(2).evaluation.read_text())["results"]
    assert_scores(entry, weights(100), TESTS["1"])


def test_it_is_scored_on_what_is_nearest_to_the_client(run: Run, cli: Cli) -> None:
    model = weights(100)
    write_state(run, 2, "0", slot("personal", model))

    def found(data: str | None = None) -> dict[str, Any]:
        (entry,) = evaluate(run, personal=True, data=data).evaluations
        return entry

    write_shard(run, run.validation_shard("0"), VALIDATION["0"])
    write_shard(run, run.test_shard, COMMON)
    for name, data, path in (
        ("client-test", TESTS["0"], run.client_test_shard("0")),
        ("validation", VALIDATION["0"], run.validation_shard("0")),
        ("test", COMMON, run.test_shard),
    ):
        assert found()["data"] == name
        assert_scores(found(), model, data)
        path.unlink()
    np.savez("scans.npz", **examples(60, 12))
    assert_scores(found("scans.npz"), model, examples(60, 12))
    status, _, err = cli("evaluate", "--personal")
    assert status == 3
    assert "hint: provide some: fedcli evaluate --personal --id 0 --data PATH" in err


def test_a_changed_state_is_scored_again(run: Run) -> None:
    write_state(run, 2, "0", slot("personal", weights(100)))
    first = evaluate(run, personal=True)
    assert evaluate(run, personal=True).computed == 0
    write_state(run, 2, "0", slot("personal", weights(101)))
    again = evaluate(run, personal=True)
    assert (first.computed, again.computed) == (1, 1)
    assert again.evaluations[0]["sha256"] != first.evaluations[0]["sha256"]
    assert_scores(again.evaluations[0], weights(101), TESTS["0"])


def test_the_state_of_an_algorithm_alone_is_no_model(run: Run) -> None:
    for client in CLIENTS:
        write_state(run, 2, client, slot("control", weights(100)))
    with pytest.raises(NotReadyError, match="no personal model of a client up to round 2"):
        evaluate(run, personal=True)
    write_state(run, 2, "1", slot("personal", weights(100)))
    assert [entry["client"] for entry in evaluate(run, personal=True).evaluations] == ["1"]
    with pytest.raises(NotReadyError, match="no personal model of client 2"):
        evaluate(run, personal=True, clients=["1,2"])


def test_it_is_looked_for_behind_the_state_of_an_algorithm(run: Run) -> None:
    write_state(run, 1, "0", slot("personal", weights(100)))
    write_state(run, 2, "0", slot("control", weights(101)))
    (entry,) = evaluate(run, personal=True).evaluations
    assert_scores(entry, weights(100), TESTS["0"])


def test_a_client_that_trained_and_kept_nothing_has_no_personal_model(run: Run) -> None:
    write_state(run, 1, "0", slot("local", weights(100)))
    write_state(run, 2, "1", slot("local", weights(100)))
    assert len(evaluate(run, personal=True).evaluations) == 2
    save(run.round(2).update("0"), weights(3), described(run, Kind.UPDATE, 2, "0"))
    assert [entry["client"] for entry in evaluate(run, personal=True).evaluations] == ["1"]
    with pytest.raises(NotReadyError, match="no personal model of client 0 up to round 2"):
        evaluate(run, personal=True, clients=["0"])


def test_a_folder_of_states_that_nothing_is_read_from(run: Run, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for arguments, words in (
        (["--state", "mine"], "--state: holds what clients keep; give --personal or --id with it"),
        (["--personal", "--state", "yours"], "--state yours: expected the folder"),
    ):
        status, _, err = cli("evaluate", *arguments)
        assert status == 2
        assert err.startswith(f"error: {words}")


def test_many_models_of_many_rounds_fit_into_80_columns(run: Run, cli: Cli) -> None:
    for client in CLIENTS:
        write_state(run, 1, client, slot("personal", weights(100)))
    status, out, err = cli("evaluate", "--personal", "--round", "all")
    assert status == 0, err
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    for number in (1, 2):
        (start,) = (n for n, line in enumerate(lines) if line.startswith(f"round {number}, person"))
        rows = [line.split() for line in lines[start + 3 : start + 3 + len(CLIENTS)]]
        assert [row[0] for row in rows] == list(CLIENTS)


def test_a_state_that_does_not_belong_here_is_refused(run: Run) -> None:
    other = described(run, Kind.CLIENT_STATE, 2, "1")
    save(run.round(2).client_state("0"), slot("personal", weights(1)), other)
    with pytest.raises(BadInputError, match=r"0\.safetensors: is the state of another client"):
        evaluate(run, personal=True)
    path = run.round(2).client_state("0")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="truncated"):
        evaluate(run, personal=True)


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["--clients"], 2, "--clients and --personal exclude each other"),
        (["--round", "0"], 3, "round 0 has no global model that clients have trained"),
        (["--round", "3"], 3, "the latest is 2"),
        (["--id", "7"], 2, "no client '7'"),
        (["--id", "2"], 3, "no personal model of client 2 up to round 2"),
    ],
)
def test_wrong_words_with_personal(
    run: Run, cli: Cli, arguments: list[str], expected: int, words: str
) -> None:
    write_state(run, 2, "0", slot("personal", weights(100)))
    found, _, err = cli("evaluate", "--personal", *arguments)
    assert found == expected, err
    assert words in err.splitlines()[0]
    assert not run.round(2).evaluation.exists()


def test_report_and_status_show_them(run: Run) -> None:
    write_state(run, 2, "0", slot("personal", weights(100)))
    evaluate(run)
    (personal,) = evaluate(run, personal=True).evaluations
    found = collect(run, "run")
    clients = {client.client: client for client in found.clients}
    assert clients["0"].personal_accuracy == personal["accuracy"]
    assert clients["1"].personal_accuracy is None
    own = evaluate(run, on_clients=True).evaluations
    assert [clients[client].test_accuracy for client in CLIENTS] == [e["accuracy"] for e in own]
    assert status(run).evaluated == (2,)
    assert status(run).next == "fedcli train-client --id 0 --data PATH"


# memory


class Greedy(nn.Module):
    """A network that does not fit into memory with more than some examples at a time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seen = most, list[int]()
        self.flat, self.fc = nn.Flatten(), nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("too many")
        self.seen.append(len(x))
        result: Tensor = self.fc(self.flat(x))
        return result


def test_smaller_batches_are_tried_where_memory_runs_out() -> None:
    cpu = torch.device("cpu")
    normalize = Normalize.for_dataset(DatasetInfo("x", CLASSES, SHAPE), as_rgb=False, device=cpu)
    x = torch.from_numpy(examples(0, 300)["x"])
    module = Greedy(100)
    found = predict(module, x, normalize, Portions(256, cpu))
    assert (max(module.seen), sum(module.seen)) == (64, 300)
    module.most = 1000
    assert torch.allclose(found, predict(module, x, normalize, Portions(256, cpu)), atol=1e-6)
    module.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        predict(module, x, normalize, Portions(256, cpu))
