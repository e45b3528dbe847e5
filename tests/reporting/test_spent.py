"""The report of a private run says what each round has spent, and draws scores over it."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.private import gaussian, sampled
from support.sample_runs import make_run

from fedcli.cli import execute
from fedcli.formats.ledger import LedgerEntry, PrivacyEvent
from fedcli.formats.manifest import Manifest
from fedcli.privacy import epsilon_at
from fedcli.reporting import spent as module
from fedcli.reporting.diagrams import Curves
from fedcli.reporting.figure_files import named_figures
from fedcli.reporting.figures import comparison_figures
from fedcli.reporting.report import Report
from fedcli.run import Run
from fedcli.run.ledgers import LedgerStore
from fedcli.steps.report import report

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("spent") / "plain", accuracies=(0.4, 0.5)).root


@pytest.fixture
def other(tmp_path: Path) -> Run:
    """A run without privacy."""
    return make_run(tmp_path / "other", accuracies=(0.4, 0.6), alpha=0.1)


@pytest.fixture
def run(plain: Path, tmp_path: Path) -> Run:
    """A run with ledgers: client 0 spends in each round, and client 1 more in round 2 alone."""
    shutil.copytree(plain, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    for number in (1, 2):
        spend(run, "0", number, gaussian(5))
    spend(run, "1", 2, gaussian(2))
    return run


def spend(run: Run, client: str, number: int, event: PrivacyEvent) -> None:
    LedgerStore(run).add(client, LedgerEntry(run.id, number, 1, f"{number:064}", event))


def epsilons(found: Report) -> list[float | None]:
    return [round_.epsilon for round_ in found.runs[0].rounds]


def notes(found: Report) -> str:
    return "\n".join(note.text for note in found.runs[0].notes)


def test_each_round_has_the_largest_epsilon_of_a_client(run: Run) -> None:
    found = report([run])
    once, more = (epsilon_at([gaussian(sigma)], 1e-5) for sigma in (5, 2))
    assert more > epsilon_at([gaussian(5, 2)], 1e-5)
    assert epsilons(found) == pytest.approx([0, once, more], rel=1e-9)
    assert f"each example is protected by ε = {more:.3g} at δ = 1e-05, by the ledgers" in notes(
        found
    )
    assert found.summary[0].epsilon == pytest.approx(more)
    assert found.summary[0].epsilon_clients is None


def test_other_runs_in_a_ledger_do_not_count(run: Run) -> None:
    before = epsilons(report([run]))
    LedgerStore(run).add("0", LedgerEntry("another", 1, 1, "f" * 64, gaussian(0.5)))
    assert epsilons(report([run])) == before


def test_sums_over_clients_are_a_level_of_their_own(run: Run) -> None:
    for number in (1, 2):
        path = run.round(number).manifest
        manifest = Manifest.read(path)
        assert manifest is not None
        entry = LedgerEntry(run.id, number, 1, "a" * 64, gaussian(4))
        replace(manifest, privacy=(entry,)).write(path)
    found = report([run])
    expected = [0, *(epsilon_at([gaussian(4, n)], 1e-5) for n in (1, 2))]
    assert [r.epsilon_clients for r in found.runs[0].rounds] == pytest.approx(expected, rel=1e-9)
    assert "each client is protected by ε" in notes(found)
    assert {"accuracy-by-epsilon", "accuracy-by-epsilon-of-clients"} <= named_figures(found).keys()


def test_scores_are_drawn_over_epsilon_and_runs_without_are_levels(run: Run, other: Run) -> None:
    found = report([run, other])
    (figure,) = [one for one in comparison_figures(found) if one[0] == "epsilon"]
    assert isinstance(figure[1], Curves)
    private, level = figure[1].lines
    assert list(private.x) == pytest.approx(epsilons(found)[1:])  # round 0 has no score
    assert (private.level, level.level) == (False, True)
    assert "A level line is a run without." in figure[2]
    assert not [name for name in named_figures(report([other])) if "epsilon" in name]


def test_a_run_without_noise_protects_nobody(run: Run) -> None:
    spend(run, "0", 2, replace(gaussian(0), clip=None))
    found = report([run])
    assert epsilons(found)[-1] is None
    assert "no example is protected: there is no noise, and ε has no bound" in notes(found)


@pytest.mark.parametrize("broken", ["ledger", "extra"])
def test_what_cannot_be_computed_is_left_out_with_a_note(
    run: Run, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "ledger":
        LedgerStore(run).path("0").write_text("{")
        said = "put a copy back"
    else:
        spend(run, "0", 2, sampled(0.5, 1.5, 3))
        monkeypatch.setitem(sys.modules, "dp_accounting", None)
        said = "pip install 'fedcli[dp]'"
    found = report([run])
    assert epsilons(found) == [None] * 3
    assert "ε is left out of this report" in notes(found)
    assert said in notes(found)


def test_of_many_rounds_some_are_computed_the_ends_among_them() -> None:
    chosen = module._chosen(range(1, 1001))
    assert (len(chosen), chosen[0], chosen[-1]) == (20, 1, 1000)
    assert module._chosen([3, 4]) == [3, 4]


def test_tables_csv_and_page_have_it(run: Run, other: Run, tmp_path: Path) -> None:
    csv, page = tmp_path / "r.csv", tmp_path / "r.html"
    words = ["report", str(run.root), str(other.root), "--csv", str(csv), "--html", str(page)]
    assert execute(words) == 0
    measured = [line for line in csv.read_text().splitlines() if ",epsilon," in line]
    assert len(measured) == 3
    html = page.read_text()
    assert "ε: protects each example" in html
    assert "over the ε that protects each example" in html


def test_json_has_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["report", str(run.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"][0]["rounds"][0]["epsilon"] == 0
