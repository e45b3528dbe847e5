"""What ``fedcli aggregate`` shows of its result on a terminal of 80 columns."""

from pathlib import Path

import numpy as np
import pytest
from support.runs import ROLES, deliver, fedcli, run_info, tensors

from fedcli.cli import execute
from fedcli.formats.checkpoint import save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.run import Run

HOSTILE = 1000.0


def make_run(root: Path, clients: tuple[str, ...], hostile: str = "") -> Run:
    """A run whose clients have all delivered; the update of ``hostile`` is far from the rest."""
    run = Run.create(root / "fedrun", run_info(clients))
    save(run.round(0).global_model, tensors(0), Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES))
    for number, client in enumerate(clients):
        values = tensors(number + 1)
        if client == hostile:
            values["fc.weight"] = np.full_like(values["fc.weight"], HOSTILE)
        deliver(run, client, values)
    return run


@pytest.fixture
def shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Shown":
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Shown(tmp_path, capsys)


class Shown:
    """Runs ``fedcli aggregate`` in a directory and gives the lines that it prints."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys

    def lines(self, options: str) -> list[str]:
        assert execute(["aggregate", "--quiet", *options.split()]) == 0
        lines = self.capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        return lines

    def table(self, options: str) -> dict[str, dict[str, str]]:
        """The rows by client, each value by its column."""
        lines = self.lines(options)
        start = next(number for number, line in enumerate(lines) if line.startswith("client"))
        columns = lines[start].split()
        rows = [line.split() for line in lines[start + 2 :]]
        return {
            row[0]: dict(zip(columns[1:], row[1:], strict=True))
            for row in rows
            if len(row) == len(columns) and not row[0].endswith(":")
        }


def test_a_hostile_client_stands_out(shown: Shown) -> None:
    make_run(shown.directory, ("0", "1", "2", "3", "4"), hostile="3")
    table = shown.table("--strategy multi-krum --byzantine 1")
    assert {client for client, row in table.items() if row["kept"] == "no"} == {"3"}
    for figure in ("norm", "distance"):
        honest = [float(row[figure]) for client, row in table.items() if client != "3"]
        assert float(table["3"][figure]) > 10 * max(honest)
    assert all(-1 <= float(row["cosine"]) <= 1 for row in table.values())


def test_columns_are_of_what_was_measured_and_differs(shown: Shown) -> None:
    run = make_run(shown.directory, ("0", "1", "2"))
    measured = shown.table("")
    assert list(measured["0"]) == ["examples", "weight", "norm", "cosine", "distance"]
    run.round(1).global_model.unlink()
    unmeasured = shown.table("--no-diagnostics")
    assert list(unmeasured["0"]) == ["examples", "weight"]
    assert {row["examples"] for row in unmeasured.values()} == {"10", "11", "12"}


def test_of_many_clients_those_not_kept_are_named(shown: Shown) -> None:
    clients = tuple(str(number) for number in range(25))
    make_run(shown.directory, clients, hostile="24")
    lines = shown.lines("--strategy multi-krum --byzantine 1")
    assert "… and 5 more; see aggregate.json" in lines
    assert "not kept: 24" in lines


def test_long_names_and_large_figures_fit(shown: Shown) -> None:
    names = tuple(f"{letter * 64}" for letter in "abcde")
    make_run(shown.directory, names, hostile=names[0])
    lines = shown.lines("--strategy multi-krum --byzantine 1")
    assert "".join(line.split(" ")[0] for line in lines if line.startswith("aa")) == names[0]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ("", "fedavg (mean) of 3 updates, weighted by examples"),
        ("--weighting uniform", "fedavg (mean) of 3 updates, weighted uniform"),
        ("--strategy median", "median of 3 updates, weighted uniform"),
        ("--strategy fedadam", "fedadam (mean, adam) of 3 updates, weighted by examples"),
        (
            "--reduce median --server-optimizer yogi",
            "fedavg (median, yogi) of 3 updates, weighted uniform",
        ),
    ],
)
def test_the_headline_names_the_rule(options: str, rule: str, shown: Shown) -> None:
    make_run(shown.directory, ("0", "1", "2"))
    assert f"round 1: {rule}: " in " ".join(shown.lines(options)[:2])
    assert "already done" in " ".join(shown.lines(f"{options} --round 1")[:2])


def test_who_is_not_in_it_is_named_with_the_reason(tmp_path: Path) -> None:
    run = make_run(tmp_path, ("0", "1", "2", "3"))
    run.round(1).update("2").unlink()
    done = fedcli("aggregate", "--min-clients", 2, "--exclude", 0, cwd=tmp_path)
    assert done.status == 0, done.err
    absent = {line.split(": ")[1]: line for line in done.out.splitlines() if "): " in line}
    assert absent["2"].startswith("missing (")
    assert absent["0"] == "left out (excluded): 0"


def test_a_partial_mean_is_a_row_of_the_table(shown: Shown) -> None:
    make_run(shown.directory, ("0", "1", "2"))
    lines = shown.lines("--partial -o edge.safetensors 0 1")
    assert lines[0] == "round 1: partial mean of 2 clients"
    assert lines[-1] == "next: fedcli aggregate edge.safetensors"
    lines = shown.lines("edge.safetensors 2")
    assert any(line.split()[:5] == ["edge", "(2", "clients)", "21", "0.6364"] for line in lines)


@pytest.mark.parametrize("typed", ["", "--weighting uniform", "--round 1 --weighting uniform"])
def test_the_next_command_after_a_partial_mean_can_be_typed(typed: str, shown: Shown) -> None:
    make_run(shown.directory, ("0", "1", "2"))
    lines = shown.lines(f"{typed} --partial -o edge.safetensors")
    following = lines[-1].removeprefix("next: fedcli aggregate ")
    assert following == f"{typed} edge.safetensors".strip()
    assert any(line.split()[:3] == ["edge", "(3", "clients)"] for line in shown.lines(following))
