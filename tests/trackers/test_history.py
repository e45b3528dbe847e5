"""What trackers are given: names that they all take, and no more than they can show."""

import re
from pathlib import Path

import pytest
from support.sample_runs import HOSTILE, edit_manifest, make_run, score, write_evaluation

from fedcli.run import Run
from fedcli.steps.report import report
from fedcli.trackers.history import History, history_of

pytestmark = pytest.mark.usefixtures("unsynced")


def history(run: Run, label: str = "r") -> History:
    return history_of(report([run], labels=[label]).runs[0])


def names(found: History) -> set[str]:
    return {name for one in found.rounds for name in one.values}


def test_settings_say_how_the_run_was_made(run: Run) -> None:
    found = history(run).settings
    expected = {"scheme": "dirichlet", "alpha": 0.5, "seed": 0, "algorithm": "fedavg"}
    assert {**expected, "rule": "fedavg", "fedcli_run": run.id}.items() <= found.items()


def test_a_long_setting_is_cut_where_it_can_be_seen(run: Run) -> None:
    edit_manifest(run.round(3), options={"note": "x" * 7000})
    found = history(run).settings["note"]
    assert found == "x" * 499 + "…"


def test_names_say_what_was_scored_on_what(run: Run) -> None:
    scores = [
        score(run, 0.1),
        score(run, 0.2, data="client-test", data_client="1"),
        score(run, 0.3, model="update", client="2"),
        score(run, 0.4, model="update", client="2", data="client-test", data_client="0"),
        score(run, 0.5, model="personal", client="0", data="validation", data_client="0"),
        score(run, 0.6, classes=["ant", "bee"]),
    ]
    write_evaluation(run.round(3), scores)
    values = history(run).rounds[3].values
    found = {name: value for name, value in values.items() if "/accuracy" in name}
    assert {name: value for name, value in found.items() if "by class" not in name} == {
        "test/accuracy": 0.1,
        "client-test/accuracy/1": 0.2,
        "update on test/accuracy/2": 0.3,
        "update on client-test of client 0/accuracy/2": 0.4,
        "personal on validation/accuracy/0": 0.5,
        "test_ only ant_ bee/accuracy": 0.6,
    }
    assert found["personal on validation by class/accuracy/0/ant"] == 0.5


def test_names_have_the_characters_that_mlflow_takes_and_stay_apart(tmp_path: Path) -> None:
    classes = (*HOSTILE, "a;b", "a,b", "A,B", "..", "x" * 300, "x" * 301)
    found = names(history(make_run(tmp_path / "r", classes=classes)))
    of_classes = {name for name in found if name.startswith("test by class/f1/")}
    assert len({name.casefold() for name in of_classes}) == len(classes)
    for name in found:
        assert re.fullmatch(r"[\w .:/-]{1,250}", name), name
        assert not {"", ".", ".."} & set(name.split("/")), name


def test_seconds_add_up_over_the_rounds(run: Run) -> None:
    # the slowest client takes 3, 4 and 5 seconds; aggregation 0.5, evaluation 0.25
    assert [one.seconds for one in history(run).rounds] == [0, 3.75, 8.5, 14.25]


def test_only_the_first_fifty_clients_and_classes_have_values(tmp_path: Path) -> None:
    clients = tuple(str(number) for number in range(52))
    classes = tuple(f"kind {number}" for number in range(51))
    found = history(make_run(tmp_path / "r", clients=clients, classes=classes))
    of_clients = {name.split("/")[2] for name in names(found) if name.startswith("update/")}
    assert of_clients == set(clients[:50])
    assert "test by class/f1/kind 49" in names(found)
    assert "test by class/f1/kind 50" not in names(found)
    assert found.left_out == ("50 of 52 clients", "50 of 51 classes")


def test_a_round_that_is_not_complete_is_not_there(run: Run) -> None:
    run.round(3).global_model.unlink()
    assert [one.number for one in history(run).rounds] == [0, 1, 2]


def test_equal_runs_have_equal_histories_and_others_have_not(run: Run) -> None:
    one, other = history(run), history(run, "other")
    assert (one.key, one.content) == (history(run).key, history(run).content)
    assert one.key != other.key
    write_evaluation(run.round(3), [score(run, 0.75)])
    assert history(run).key == one.key
    assert history(run).content != one.content
