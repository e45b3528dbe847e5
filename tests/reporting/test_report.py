"""What a report says of a run directory, whole or not."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.reports import terminal_text
from support.runs import deliver, run_info, tensors
from support.sample_runs import (
    HOSTILE,
    edit_manifest,
    make_run,
    score,
    without,
    write_evaluation,
    write_round,
)

from fedcli.cli.render.output import plain
from fedcli.errors import NotReadyError, UsageError
from fedcli.plan import AggregatePlan, Plan
from fedcli.reporting.markdown import to_markdown
from fedcli.reporting.page import to_html
from fedcli.reporting.report import Report
from fedcli.reporting.run_report import RunReport
from fedcli.reporting.sparkline import bars, curve, spread
from fedcli.reporting.subject import Subject
from fedcli.reporting.tidy import to_csv
from fedcli.run import Run
from fedcli.run.sampling import sampled_clients
from fedcli.steps.report import report
from fedcli.storage.atomic import write_json


def only_run(run: Run) -> RunReport:
    (found,) = report([run]).runs
    return found


def absence(client: str, reason: str, number: int | None = None) -> dict[str, object]:
    return {"client": client, "reason": reason, "round": number}


def texts(found: RunReport) -> list[str]:
    return [note.text for note in found.notes]


def commands(found: RunReport) -> list[str]:
    return [note.command for note in found.notes if note.command]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "fedrun")


class TestBytes:
    def test_are_the_sizes_of_the_files_that_were_exchanged(self, run: Run) -> None:
        so_far = 0
        for round_ in only_run(run).rounds[1:]:
            paths = run.round(round_.number)
            up = sum(paths.update(client).stat().st_size for client in "012")
            base = run.round(round_.number - 1).global_model
            so_far += up + 3 * base.stat().st_size
            assert (round_.bytes_up, round_.bytes_total) == (up, so_far)
            assert round_.bytes_down == 3 * base.stat().st_size

    def test_are_known_after_the_updates_were_deleted(self, run: Run) -> None:
        before = [(r.bytes_up, r.bytes_down, r.bytes_total) for r in only_run(run).rounds]
        for number in (1, 2, 3):
            shutil.rmtree(run.round(number).updates)
        assert [(r.bytes_up, r.bytes_down, r.bytes_total) for r in only_run(run).rounds] == before

    def test_a_client_that_did_not_take_part_costs_nothing(self, run: Run) -> None:
        without(run.round(1), "2")
        edit_manifest(run.round(1), missing=[absence("2", "has not delivered")])
        found = only_run(run).rounds[1]
        base = run.round(0).global_model.stat().st_size
        assert found.bytes_down == 2 * base
        assert found.bytes_up == sum(run.round(1).update(c).stat().st_size for c in "01")

    def test_of_a_partial_mean_are_those_of_one_file_each_way(self, run: Run) -> None:
        without(run.round(1), "2")
        edit_manifest(run.round(1), partials=[EDGE])
        found = only_run(run)
        base = run.round(0).global_model.stat().st_size
        updates = sum(run.round(1).update(c).stat().st_size for c in "01")
        assert found.rounds[1].bytes_up == updates + EDGE["bytes"]
        assert found.rounds[1].bytes_down == 3 * base
        text = terminal_text(report([run]))
        assert re.search(r"^ +1 +40\.0 +0\.600 +7 ", text, re.MULTILINE)  # 2 and 5 within

    def test_of_a_federation_of_one_are_none_and_it_says_so(self, tmp_path: Path) -> None:
        central = make_run(tmp_path / "central", clients=("0",))
        found = report([central])
        assert found.summary[0].centralised
        assert {(r.bytes_up, r.bytes_down, r.bytes_total) for r in found.runs[0].rounds} == {
            (0, 0, 0)
        }
        assert "no model is exchanged" in found.runs[0].notes[0].text
        assert "1.0 MB" in found.runs[0].notes[0].text  # its one shard

    def test_of_a_run_called_centralised_are_not_called_so_twice(self, tmp_path: Path) -> None:
        other = make_run(tmp_path / "federated")
        central = make_run(tmp_path / "centralised", clients=("0",))
        text = terminal_text(report([central, other]))
        assert "note: centralised: one client holds all examples" in text
        assert "centralised (centralised)" not in text
        renamed = terminal_text(report([central, other], labels=["pooled", "federated"]))
        assert "pooled (centralised)" in renamed

    def test_belong_to_the_round_whose_accuracy_is_shown(self, run: Run) -> None:
        run.round(3).evaluation.unlink()
        found = report([run])
        assert found.summary[0].round == 2
        assert found.summary[0].bytes_total == found.runs[0].rounds[2].bytes_total


class TestAccuracy:
    def test_final_is_the_last_and_best_is_the_first_of_the_highest(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "r", accuracies=(0.4, 0.55, 0.55, 0.5))
        (summary,) = report([run]).summary
        assert (summary.round, summary.accuracy) == (4, 0.5)
        assert (summary.best_round, summary.best) == (2, 0.55)

    def test_of_a_model_since_replaced_is_left_out(self, run: Run) -> None:
        write_evaluation(run.round(3), [score(run, 0.9, sha256="f" * 64)])
        found = report([run])
        assert found.summary[0].accuracy == 0.55
        assert f"fedcli evaluate --round 3 --run {run.root}" in commands(found.runs[0])

    def test_is_of_what_there_is_when_the_test_set_was_not_scored(self, run: Run) -> None:
        for number in (1, 2, 3):
            entry = score(run, 0.3 + number / 10, classes=["ant", "bee"])
            validation = score(run, 0.9, data="validation", data_client="0")
            write_evaluation(run.round(number), [validation, entry])
        found = report([run])
        assert found.headline == Subject(classes=("ant", "bee"))
        assert found.summary[0].accuracy == 0.6
        assert "only ant, bee" in found.notes[0].text

    def test_of_every_model_and_data_set_has_its_own_row(self, run: Run) -> None:
        entries = [
            score(run, 0.51),
            score(run, 0.52, classes=["ant"]),
            score(run, 0.53, data="my-scans"),
            score(run, 0.54, model="update", client="2"),
            score(run, 0.56, data="validation", data_client="1"),
            score(run, 0.57, data="client-test", data_client="0"),
            score(run, 0.58, model="personal", client="1", data="validation", data_client="1"),
            score(run, 0.59, model="personal", client="2"),
        ]
        write_evaluation(run.round(3), entries)
        found = report([run])
        clients = {client.client: client for client in found.runs[0].clients}
        assert clients["2"].own_accuracy == 0.54
        assert clients["1"].validation_accuracy == 0.56
        assert clients["0"].own_accuracy is clients["0"].validation_accuracy is None
        assert [clients[id_].test_accuracy for id_ in "012"] == [0.57, None, None]
        assert [clients[id_].personal_accuracy for id_ in "012"] == [None, 0.58, 0.59]
        text = to_markdown(found)
        for name, value in {
            "global model on test, only ant": "52.0",
            "global model on my-scans": "53.0",
            "model of client 2 on test": "54.0",
            "global model on validation of client 1": "56.0",
            "global model on client-test of client 0": "57.0",
            "personal model of client 1 on validation of client 1": "58.0",
            "personal model of client 2 on test": "59.0",
        }.items():
            assert re.search(rf"^\| {name} \| 3 \|.*\| {value} \|", text, re.MULTILINE)


def test_time_of_a_round_is_that_of_the_slowest_client_and_of_all(run: Run) -> None:
    found = only_run(run).rounds[2]
    assert (found.training_seconds_max, found.training_seconds_sum) == (4, 2 + 3 + 4)
    assert (found.aggregation_seconds, found.evaluation_seconds) == (0.5, 0.25)


def test_a_client_is_described_by_its_last_round(run: Run) -> None:
    client = only_run(run).clients[1]
    assert (client.examples, client.label_counts) == (10 + 20 + 0 + 10, (10, 20, 0, 10))
    assert (client.local_loss, client.local_accuracy, client.rounds) == (1.0, 0.75, 3)
    assert client.seconds == 2 + 3 + 4


class TestClientsWithTheirOwnData:
    """A run made by ``init``: it holds no examples, and is scored on somebody's folder."""

    @pytest.fixture
    def run(self, run: Run) -> Run:
        shutil.rmtree(run.root / "data")
        for number in (1, 2, 3):
            own = score(run, number / 10, data=REFERENCE)
            update = score(run, 0.05, data=REFERENCE, model="update", client="1")
            write_evaluation(run.round(number), [update, own])
        return run

    def test_are_told_what_works_where_their_data_is(self, run: Run) -> None:
        run.round(3).evaluation.unlink()
        deliver(run, "1", tensors(9), round_number=4)
        assert commands(only_run(run)) == [
            f"fedcli evaluate --round latest --data PATH --run {run.root}",
            f"fedcli train-client --id 0 --data PATH --run {run.root}",
        ]
        write_evaluation(run.round(3), [score(run, 0.9, data=REFERENCE, sha256="f" * 64)])
        stale = f"fedcli evaluate --round 3 --data PATH --run {run.root}"
        assert stale in commands(only_run(run))

    def test_are_judged_by_the_data_that_there_is(self, run: Run) -> None:
        found = report([run])
        assert found.headline == Subject(data=REFERENCE)
        assert (found.summary[0].accuracy, found.summary[0].best_round) == (0.3, 3)
        assert found.runs[0].clients[1].own_accuracy == 0.05
        text = terminal_text(found)
        assert f"accuracy and loss are those of the global model on {REFERENCE}" in text
        assert re.search(r"^ +2 20\.0 0\.800 ", text, re.MULTILINE)

    def test_are_judged_by_what_most_rounds_have(self, run: Run) -> None:
        changed = score(run, 0.9, data="reference (00000000)")
        some = score(run, 0.8, data="a", classes=["ant"])
        for number in (1, 2, 3):
            own = score(run, 0.3, data=REFERENCE)
            write_evaluation(run.round(number), [own, some, *[changed] * (number == 3)])
        assert report([run]).headline == Subject(data=REFERENCE)

    def test_are_not_compared_silently_with_a_simulation(self, run: Run, tmp_path: Path) -> None:
        found = report([run, make_run(tmp_path / "simulated")])
        assert [row.accuracy for row in found.summary] == [None, 0.5]
        (note,) = found.notes
        assert note.text.startswith("fedrun has no score of the global model on test")


class TestIncomplete:
    def test_without_evaluation_it_says_how_to_get_one(self, run: Run) -> None:
        for number in (1, 2, 3):
            run.round(number).evaluation.unlink()
        found = report([run])
        assert found.summary[0].accuracy is None
        assert found.summary[0].round == 3
        assert commands(found.runs[0]) == [f"fedcli evaluate --round all --run {run.root}"]
        assert "–" in terminal_text(found)

    def test_without_telemetry_only_the_times_are_missing(self, run: Run) -> None:
        run.round(2).telemetry("1").unlink()
        found = only_run(run)
        assert found.rounds[2].score(Subject()) is not None
        assert found.rounds[2].training_seconds_sum == 2 + 4
        assert found.clients[1].seconds is None
        assert "round 2: no telemetry of the accepted update of client 1" in found.notes[0].text

    def test_telemetry_of_another_update_is_not_used(self, run: Run) -> None:
        path = run.round(2).telemetry("1")
        path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "0" * 64}))
        assert only_run(run).rounds[2].training_seconds_sum == 2 + 4

    def test_an_open_round_is_no_result_and_it_says_who_is_missing(self, run: Run) -> None:
        deliver(run, "1", tensors(9), round_number=4)
        found = report([run])
        assert found.summary[0].round == 3
        assert f"fedcli train-client --id 0,2 --run {run.root}" in commands(found.runs[0])

    def test_a_round_to_be_aggregated_says_so(self, run: Run) -> None:
        for client in "012":
            deliver(run, client, tensors(9), round_number=4)
        assert f"fedcli aggregate --run {run.root}" in commands(only_run(run))

    def test_a_partition_alone_is_worth_a_report(self, tmp_path: Path) -> None:
        found = only_run(make_run(tmp_path / "r", accuracies=()))
        assert found.clients[0].label_counts == (0, 10, 20, 0)
        assert commands(found) == [f"fedcli train-client --id all --run {tmp_path / 'r'}"]

    def test_a_run_of_a_real_federation_has_no_label_counts(self, run: Run) -> None:
        shutil.rmtree(run.root / "data")
        found = report([run])
        assert [client.examples for client in found.runs[0].clients] == [40, 40, 40]
        assert "labels" not in terminal_text(found)

    def test_with_nothing_at_all_it_is_not_ready(self, tiny_run: Run) -> None:
        with pytest.raises(NotReadyError) as caught:
            report([tiny_run])
        assert caught.value.hint == f"fedcli status --run {tiny_run.root}"


EDGE = {
    "name": "edge-1",
    "sha256": "e" * 64,
    "clients": 5,
    "num_examples": 200,
    "weight": 0.7,
    "bytes": 12_345,
}
REFERENCE = "reference (3f2a91bc)"


class TestWhoTookPart:
    def test_is_counted_over_complete_rounds(self, run: Run) -> None:
        without(run.round(2), "1")
        edit_manifest(run.round(2), missing=[absence("1", "has not delivered")])
        late = absence("1", "round 2 was complete when it arrived", 2)
        later = absence("1", "round 1 was complete when it arrived", 1)
        edit_manifest(run.round(3), late=[late, later])
        without(run.round(3), "2")
        edit_manifest(run.round(3), rejected=[absence("2", "excluded")])
        deliver(run, "2", tensors(9), round_number=4)  # an open round does not count yet
        found = report([run])
        zero, one, two = found.runs[0].clients
        assert (zero.rounds, zero.missing, zero.late, zero.rejected) == (3, 0, 0, 0)
        assert (one.rounds, one.missing, one.late, one.rejected) == (2, 1, 2, 0)
        assert (two.rounds, two.missing, two.late, two.rejected) == (2, 0, 0, 1)
        assert "client 2: rejected in round 3: excluded" in texts(found.runs[0])
        text = terminal_text(found)
        assert re.search(r"^1 +2 +1 +2 +–$", text, re.MULTILINE)

    def test_is_not_shown_where_everybody_always_did(self, run: Run) -> None:
        assert "Who took part" not in terminal_text(report([run]))
        assert "Who took part" not in to_markdown(report([run]))

    def test_of_a_sample_counts_the_rounds_that_it_was_drawn_for(self, run: Run) -> None:
        for number, drawn in ((1, ["0", "1"]), (2, ["1", "2"]), (3, ["0", "1"])):
            (other,) = {"0", "1", "2"} - set(drawn)
            without(run.round(number), other)
            edit_manifest(run.round(number), sampled=drawn)
        found = only_run(run)
        assert [(c.rounds, c.sampled) for c in found.clients] == [(2, 2), (3, 3), (1, 1)]
        assert found.rounds[2].sampled == ("1", "2")
        assert "Who took part in 3 rounds" in to_markdown(report([run]))

    def test_open_round_of_a_sample_asks_for_its_clients_only(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "r", plan=Plan(aggregate=AggregatePlan(clients_per_round=1)))
        (drawn,) = sampled_clients(run.info, 4)
        other = next(client for client in "012" if client != drawn)
        deliver(run, other, tensors(9), round_number=4)
        assert f"fedcli train-client --id {drawn} --run {run.root}" in commands(only_run(run))
        deliver(run, drawn, tensors(9), round_number=4)
        assert f"fedcli aggregate --run {run.root}" in commands(only_run(run))

    def test_with_a_late_update_has_the_telemetry_of_its_own_round(self, run: Run) -> None:
        earlier = json.loads(run.round(2).manifest.read_text())["accepted"][1]
        without(run.round(3), "1")
        manifest = json.loads(run.round(3).manifest.read_text())
        run.round(3).manifest.write_text(
            json.dumps({**manifest, "accepted": [*manifest["accepted"], earlier]})
        )
        found = only_run(run)
        late = found.rounds[3].clients[-1]
        assert (late.client, late.update_round, late.seconds) == ("1", 2, 3.0)
        assert found.clients[1].stale == 1
        assert not [text for text in texts(found) if "telemetry" in text]
        assert re.search(r"^\| 1 \|.*\| 2 \|", _updates(report([run])), re.MULTILINE)

    def test_reasons_are_told_once_for_all_rounds_and_clients(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "r", accuracies=(0.1,) * 6)
        for number in (2, 3, 4, 6):
            left = [absence(c, "not sampled") for c in "02"]
            reason = f"round {number - 1} was complete when it arrived"
            late = [absence("1", reason, number - 1)]
            edit_manifest(run.round(number), rejected=left, late=late)
        assert [t for t in texts(only_run(run)) if t.startswith("client")] == [
            "clients 0, 2: rejected in rounds 2-4, 6: not sampled",
            "client 1: late with the update of rounds 1-3, 5: that round was complete when it"
            " arrived",
        ]


def _updates(found: Report) -> str:
    return to_markdown(found).split("### Updates of")[1].split("###")[0]


class TestRule:
    @pytest.mark.parametrize(
        ("changes", "label"),
        [
            ({}, "fedavg"),
            ({"options": {"server_lr": 0.5, "server_momentum": 0.0}}, "fedavg (server lr 0.5)"),
            (
                {"strategy": "trimmed-mean", "reduce": "trimmed-mean", "options": {"trim": 0.2}},
                "trimmed-mean (trim 0.2)",
            ),
            ({"reduce": "median", "server_optimizer": "adam", "options": {}}, "median + adam"),
            (
                {"strategy": "fedavgm", "options": {"server_lr": 1.0, "server_momentum": 0.9}},
                "fedavgm",
            ),
            ({"reduce": "mine:rule", "options": {}}, "mine:rule"),
            ({"strategy": "of-tomorrow", "reduce": "new"}, "of-tomorrow"),
        ],
    )
    def test_is_called_by_what_differs_from_its_name(
        self, run: Run, changes: dict[str, object], label: str
    ) -> None:
        edit_manifest(run.round(3), **changes)
        found = report([run])
        assert found.runs[0].rounds[3].rule == label
        assert f" · {label} · " in terminal_text(found)


class TestUpdates:
    @pytest.fixture
    def poisoned(self, tmp_path: Path) -> Run:
        run = make_run(tmp_path / "poisoned", clients=tuple(map(str, range(25))))
        attack = {"norm": 20.0, "cosine": -0.5, "distance": 21.0, "kept": False, "weight": 0.0}
        for number in (1, 2, 3):
            edit_manifest(run.round(number), accepted={"23": attack})
        return run

    def test_that_stand_out_are_seen_first(self, poisoned: Run) -> None:
        found = report([poisoned])
        text = terminal_text(found)
        assert max(map(len, text.splitlines())) <= 80
        table = text.split("Updates of round 3")[1].split("Who took")[0]
        assert re.search(r"─\n23 +40 +0\.000 +20\.0 +-0\.50 +21\.0 +no ", table)
        assert "norm ×10, distance ×21," in table
        (note,) = [text for text in texts(found.runs[0]) if "stands out" in text]
        assert note == (
            "client 23 stands out: its update is 10 times as long as the median (rounds 1-3);"
            " it lies 21 times as far from the others as the median (rounds 1-3);"
            " it opposes the step of the others (cosine -0.50; rounds 1-3);"
            " the rule left it out in 3 of 3 rounds"
        )

    def test_are_in_every_format(self, poisoned: Run) -> None:
        found = report([poisoned])
        assert "| 23 | 40 | 0.000 | 20.0 | -0.50 | 21.0 | no | norm ×10" in _updates(found)
        page = to_html(found)
        assert "distance ×21, opposes" in page
        assert ">client 23</text>" in page  # in the legend of the norms
        assert ">client 22</text>" not in page
        values = {
            (row["round"], row["measure"]): float(row["value"])
            for row in csv.DictReader(io.StringIO(to_csv(found)))
            if row["client"] == "client 23"
        }
        assert values["3", "update_norm"] == 20
        assert values["3", "update_cosine"] == -0.5
        assert values["3", "update_distance"] == 21
        assert values["3", "update_kept"] == 0
        assert values["3", "staleness"] == 0

    def test_that_were_not_measured_have_no_table(self, run: Run) -> None:
        nothing = {"norm": None, "cosine": None, "distance": None}
        for number in (1, 2, 3):
            edit_manifest(run.round(number), accepted=dict.fromkeys("012", nothing))
        found = report([run])
        assert "Updates of" not in terminal_text(found)
        assert "Updates of" not in to_markdown(found)
        assert "norms" not in to_html(found)

    def test_columns_of_which_nothing_is_known_vanish(self, run: Run) -> None:
        header = _updates(report([run])).split("| --- ")[0]
        assert "| client | examples | weight | norm | cosine | distance |" in header
        assert "kept" not in header
        assert "stands out" not in header

    def test_that_came_within_a_partial_mean_have_one_row(self, run: Run) -> None:
        edit_manifest(run.round(3), partials=[EDGE])
        row = r"^\| edge-1 \(5 clients\) \| 200 \| 0\.700 \| – \| – \| – \|$"
        assert re.search(row, _updates(report([run])), re.MULTILINE)


BROKEN = {
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "a list": lambda _: "[]",
    "newer": lambda text: text.replace('"format": 1', '"format": 2'),
    "not a number": lambda text: re.sub(r": (\d)", r': "\1', text, count=1),
    "without a key": lambda _: '{"format": 1}',
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize(
    "name",
    [
        "data/partition.json",
        "rounds/0002/aggregate.json",
        "rounds/0002/evaluation.json",
        "rounds/0002/updates/1.json",
    ],
)
def test_a_broken_file_is_named(run: Run, name: str, how: str) -> None:
    path = run.root / name
    path.write_text(BROKEN[how](path.read_text()))
    assert texts(only_run(run))[0].startswith(f"{name} is left out of this report: ")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"accuracy": 64.2}, "expected 0 to 1"),
        ({"accuracy": "0.5"}, r"results\[0\].accuracy: expected float, found str"),
        ({"confusion": [[1, 2]]}, "as many columns as rows"),
        ({"examples": True}, "expected int, found bool"),
    ],
)
def test_scores_that_cannot_be_are_left_out(
    run: Run, change: dict[str, object], complaint: str
) -> None:
    write_evaluation(run.round(1), [{**score(run, 0.5), **change}])
    found = only_run(run)
    assert found.rounds[1].scores == ()
    assert re.search(complaint, texts(found)[0])


class TestSeveralRuns:
    def test_are_called_by_their_directories_or_as_told(self, tmp_path: Path) -> None:
        runs = [make_run(tmp_path / name) for name in ("iid", "skewed")]
        assert [row.label for row in report(runs).summary] == ["iid", "skewed"]
        named = report(runs, labels=["FedAvg", "worse"])
        assert [row.label for row in named.summary] == ["FedAvg", "worse"]

    def test_of_the_same_name_are_told_apart_by_their_paths(self, tmp_path: Path) -> None:
        runs = [make_run(tmp_path / name / "fedrun") for name in ("a", "b")]
        assert [row.label for row in report(runs).summary] == [str(run.root) for run in runs]

    def test_need_one_label_each_and_different_ones(self, run: Run) -> None:
        with pytest.raises(UsageError, match="one for each of 1 runs, found 2"):
            report([run], labels=["a", "b"])
        with pytest.raises(UsageError, match="two runs are called 'a'"):
            report([run, run], labels=["a", "a"])

    def test_with_different_test_sets_are_not_compared_silently(self, tmp_path: Path) -> None:
        runs = [make_run(tmp_path / name) for name in ("a", "b")]
        assert report(runs).notes == ()
        path = runs[1].partition_file
        path.write_text(path.read_text().replace("7" * 64, "8" * 64))
        assert "not tested on the same examples" in report(runs).notes[0].text

    def test_that_do_not_say_what_they_were_tested_on_are_compared(self, tmp_path: Path) -> None:
        runs = [make_run(tmp_path / name) for name in ("a", "b")]
        for name, run in zip("12", runs, strict=True):
            values = json.loads(run.partition_file.read_text())
            test = values["shards"]["test.safetensors"]
            del test["content_sha256"]
            test["sha256"] = name * 64  # differs with the id of the run, which the file holds
            write_json(run.partition_file, values)
        assert report(runs).notes == ()

    def test_an_empty_one_among_them_is_no_failure(self, run: Run) -> None:
        empty = Run.create(run.root.parent / "new", run_info())
        rows = report([run, empty]).summary
        assert [row.accuracy for row in rows] == [0.5, None]


class TestTerminal:
    @pytest.mark.parametrize("count", [1, 2, 4, 6])
    def test_fits_80_columns_and_cuts_no_figure(self, tmp_path: Path, count: int) -> None:
        names = [f"fedavg-cifar10-dirichlet-{n}" for n in range(count)]
        runs = [make_run(tmp_path / name, classes=HOSTILE) for name in names]
        text = terminal_text(report(runs), details=True)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        assert "\x1b" not in text
        assert re.search(r"^ +3 +50\.0 ", text, re.MULTILINE)

    def test_cuts_long_tables_and_says_so(self, tmp_path: Path) -> None:
        clients = tuple(str(n) for n in range(22))
        classes = tuple(f"class-{n}" for n in range(100))
        accuracies = tuple(n / 100 for n in range(1, 26))
        run = make_run(tmp_path / "r", clients=clients, classes=classes, accuracies=accuracies)
        text = terminal_text(report([run]))
        assert max(map(len, text.splitlines())) <= 80
        assert "2 more; --csv has all" in text  # clients
        assert "80 more; --csv has all" in text  # classes
        assert "20 of 25 rounds; --csv has all" in text
        assert re.search(r"^ +1 +1\.0 ", text, re.MULTILINE)
        assert re.search(r"^ +25 +25\.0 ", text, re.MULTILINE)

    @pytest.mark.parametrize("count", [1, 2])
    def test_marks_nothing_up_in_the_names_of_things(self, tmp_path: Path, count: int) -> None:
        classes = ("[red]a[/red]", "[/a]", "c", "[bold]")
        run = make_run(tmp_path / "r", classes=classes)
        entries = [score(run, 0.5), score(run, 0.5, data="[/d] (0a0a0a0a)", classes=["[/a]"])]
        write_evaluation(run.round(3), [*entries, score(run, 0.9, sha256="f" * 64)])
        run.round(2).evaluation.unlink()
        path = run.round(2).telemetry("1")
        path.write_text(path.read_text().replace('"cpu"', '"[i]cpu[/i]"'))
        labels = ["[red]x[/]", "[/b]"][:count]
        text = terminal_text(report([run] * count, labels=labels))
        for name in (*classes, *labels, "[/d]", "[i]cpu[/i]"):
            assert name in text

    def test_names_a_long_choice_of_classes_once(self, tmp_path: Path) -> None:
        classes = tuple(f"kind-of-flower-{n}" for n in range(10))
        runs = [
            make_run(tmp_path / f"clients-with-two-classes-{n}", classes=classes) for n in range(4)
        ]
        few, some, others = classes[:1], classes[:6], classes[4:]
        for run in runs:
            entries = [score(run, 0.25, classes=list(names)) for names in (few, some, others)]
            write_evaluation(run.round(3), [score(run, 0.5), *entries])
        text = terminal_text(report(runs))
        assert max(map(len, text.splitlines())) <= 80
        _, evaluations = text.split("Evaluations")
        evaluations = " ".join(evaluations.split("Clients of")[0].split())
        for number, names in ((1, some), (2, others)):
            assert f"only 6 classes #{number}: {', '.join(names)}" in evaluations
        assert evaluations.count(classes[5]) == 2
        lines = text.splitlines()
        assert sum(line.startswith("global model on test") for line in lines) == 4
        assert any(line.split()[-1:] == [few[0]] for line in lines)

    def test_has_one_figure_a_cell_for_each_class(self, tmp_path: Path) -> None:
        runs = [make_run(tmp_path / name) for name in ("a", "b")]
        text = terminal_text(report(runs))
        assert re.search(r"^ant +100 +50\.0 +50\.0$", text, re.MULTILINE)
        assert "| ant | 100 | 0.50 | 0.50 |" in to_markdown(report(runs))
        assert re.search(r"^ant +100 +50\.0 +0\.50$", terminal_text(report(runs[:1])), re.MULTILINE)

    def test_leaves_a_command_in_one_piece(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "a-directory-whose-name-is-long-enough-to-need-a-second-line")
        run.round(3).evaluation.unlink()
        (command,) = commands(only_run(run))
        assert len(command) > 80
        assert command in terminal_text(report([run]))

    def test_breaks_names_between_words(self, tmp_path: Path) -> None:
        names = ["centralised-with-six-classes", "three-clients-two-classes-each"]
        lines = terminal_text(report([make_run(tmp_path / name) for name in names])).splitlines()
        assert any(line.startswith("three-clients-two- ") for line in lines)
        assert any(line.startswith("classes-each ") for line in lines)


class Elements(HTMLParser):
    """Every element of a page, with its attributes, and the text outside of elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("page")
    runs = [
        make_run(root / "<b>hostile", classes=HOSTILE, clients=("0", "site.b", "z")),
        make_run(root / "central", classes=HOSTILE, clients=("0",)),
    ]
    return to_html(report(runs))


class TestPage:
    def test_needs_nothing_from_elsewhere(self, page: str) -> None:
        elements = Elements(page).found
        assert {tag for tag, _ in elements}.isdisjoint({"link", "img", "iframe", "b"})
        (policy,) = (found["content"] for tag, found in elements if "http-equiv" in found)
        script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy == (
            f"default-src 'none'; script-src 'sha256-{digest}';"
            " style-src 'unsafe-inline'; img-src data:"
        )
        links = [
            value or ""
            for _, attributes in elements
            for key, value in attributes.items()
            if key in ("src", "href", "xlink:href", "data")
        ]
        assert links
        assert all(link.startswith("#") for link in links)
        assert "@import" not in page
        assert set(re.findall(r"url\((.)", page)) <= {"#"}

    def test_shows_names_as_they_are(self, page: str) -> None:
        text = Elements(page).text
        assert "<script>alert(1)</script>" in text
        assert "$x$ & 'y'" in text
        assert "evil\\x1b[31m" in text
        assert "<b>hostile" in text

    def test_has_a_title_for_every_picture_and_no_id_twice(self, page: str) -> None:
        elements = Elements(page).found
        pictures = [attributes for tag, attributes in elements if tag == "svg"]
        # accuracy, bytes, loss; labels and confusion of both runs; norms and clients of the one
        # with several
        assert len(pictures) == 3 + 2 + 2 + 2
        assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
        ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        targets = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
        assert set(targets) <= set(ids)

    def test_takes_every_colour_from_its_two_themes(self, page: str) -> None:
        style, body = page.split("</style>", 1)
        light, dark = (set(re.findall(r"(--[\w-]+):", half)) for half in style.split("@media", 1))
        used = set(re.findall(r"var\((--[\w-]+)\)", body))
        assert {"--ink", "--grid", "--paper", "--series-1"} <= used
        assert used <= light
        assert light == dark
        assert not re.findall(r"#[0-9a-f]{6}\b", body)

    def test_of_a_run_without_any_score_has_no_empty_plot(self, tmp_path: Path) -> None:
        page = to_html(report([make_run(tmp_path / "r", accuracies=())]))
        pictures = [tag for tag, _ in Elements(page).found if tag == "svg"]
        assert len(pictures) == 2  # the labels, and the clients' numbers of examples


def test_markdown_keeps_its_columns_whatever_the_names(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", classes=HOSTILE)
    text = to_markdown(report([run]))
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    # summary, intervals, classes, evaluations, rounds, updates, clients, how it was made
    assert len(tables) == 8
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "<script>" not in text
    assert re.search(r"^\| r \| 3 \| 50.0 \S+ \S+ \| 55.0 \(round 2\) \|", text, re.MULTILINE)


class TestCsv:
    def test_has_every_score_as_it_was_measured(self, run: Run) -> None:
        rows = list(csv.DictReader(io.StringIO(to_csv(report([run])))))
        measured = {
            int(row["round"]): float(row["value"])
            for row in rows
            if (row["measure"], row["subject"], row["class"])
            == ("accuracy", "global on test", "all")
        }
        assert measured == {1: 0.4, 2: 0.55, 3: 0.5}
        of_cat = [
            r for r in rows if (r["class"], r["measure"], r["round"]) == ("class cat", "f1", "2")
        ]
        assert [row["value"] for row in of_cat] == ["0.55"]
        assert all(float(row["value"]) >= 0 for row in rows)

    def test_has_neither_formulas_nor_escape_sequences(self, run: Run) -> None:
        text = to_csv(report([run], labels=["=cmd|' /C calc'!A0;=1\x1b[2J"]))
        assert "\x1b" not in text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert {row["run"] for row in rows} == {r"run =cmd|' /C calc'!A0;'=1\x1b[2J"}
        assert all(float(row["value"]) >= 0 for row in rows)

    def test_names_a_value_once(self, run: Run) -> None:
        rows = list(csv.DictReader(io.StringIO(to_csv(report([run])))))
        keys = [tuple(value for column, value in row.items() if column != "value") for row in rows]
        assert len(keys) == len(set(keys))

    def test_is_documented(self, run: Run) -> None:
        rows = list(csv.DictReader(io.StringIO(to_csv(report([run])))))
        page = Path(__file__).parents[2] / "docs" / "commands" / "report.md"
        words = set(re.findall(r"\w+", page.read_text(encoding="utf-8")))
        assert set(rows[0]) <= words
        assert {row["measure"] for row in rows} <= words


def test_the_same_runs_give_the_same_bytes(tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "elsewhere" / "fedrun"
    shutil.copytree(run.root, copy)
    names = ("report.html", "report.md", "report.csv")
    written = []
    for opened, folder in ((run, "first"), (Run.open(copy), "second")):
        files = [tmp_path / folder / name for name in names]
        report([opened], html=files[0], markdown=files[1], csv=files[2])
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]
    assert all(written[0])


def test_json_holds_the_whole_report(run: Run) -> None:
    found = json.loads(json.dumps(plain(report([run])), allow_nan=False))
    scores = [r["scores"][0]["accuracy"] for r in found["runs"][0]["rounds"][1:]]
    assert scores == [0.4, 0.55, 0.5]
    assert found["summary"][0]["best_round"] == 2


def test_a_round_aggregated_after_a_report_shows_in_the_next(run: Run) -> None:
    write_round(run, run.round(4))
    write_evaluation(run.round(4), [score(run, 0.7)])
    assert report([run]).summary[0].accuracy == 0.7


class TestSparkline:
    @given(st.lists(st.floats(0, 1), max_size=200), st.integers(2, 60))
    def test_higher_values_are_never_lower(self, values: list[float], width: int) -> None:
        line = curve(values, 0, 1, width=width)
        assert len(line) == min(len(values), width)
        picked = [values[i] for i in spread(len(values), width)]
        assert [line[i] for i in sorted(range(len(line)), key=lambda i: picked[i])] == sorted(line)

    @given(st.integers(0, 500), st.integers(2, 60))
    def test_thinning_keeps_both_ends_and_repeats_nothing(self, count: int, limit: int) -> None:
        picked = spread(count, limit)
        assert picked == sorted(set(picked))
        assert len(picked) == min(count, limit)
        assert not count or (picked[0], picked[-1]) == (0, count - 1)

    @given(st.lists(st.integers(0, 1000), max_size=12))
    def test_a_class_with_examples_is_always_seen(self, counts: list[int]) -> None:
        assert [bar == "·" for bar in bars(counts)] == [count == 0 for count in counts]

    def test_equal_values_are_level(self) -> None:
        assert len(set(curve([0.5, 0.5, 0.5], 0.5, 0.5))) == 1
