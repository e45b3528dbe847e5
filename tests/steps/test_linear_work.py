"""Work grows with the number of clients, not with its square: steps are counted, not timed."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.handmade import new_run
from support.runs import run_info, tensors
from support.tampering import send

from fedcli.errors import NotReadyError
from fedcli.formats.evaluation import Score
from fedcli.plan import AggregatePlan
from fedcli.plan.rule import resolve
from fedcli.reporting import run_report
from fedcli.reporting.run_report import RoundReport
from fedcli.reporting.subject import Subject
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.run.participation import Invitation, participation
from fedcli.run.quorum import Quorum
from fedcli.run.round import Round
from fedcli.setup.start import Start
from fedcli.steps.init import init

COUNT = 400
FEW = 30 * COUNT  # a square would be 160,000


class Counted(str):
    """A client id that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()


IDS = tuple(Counted(f"c{number}") for number in range(COUNT))


def fresh(ids: tuple[str, ...] = IDS) -> tuple[Counted, ...]:
    """Equal ids that are other objects, as those from file names are."""
    return tuple(map(Counted, ids))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of many clients, all of which have delivered."""
    info = replace(run_info(("a",)), clients=IDS)
    monkeypatch.setattr(Round, "delivered", lambda self: [*fresh()] if self.number == 1 else [])
    return Run(tmp_path, info, "id")


def comparisons(work: Callable[[], Any]) -> int:
    before = Counted.compared
    work()
    return Counted.compared - before


HALF = IDS[::2]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"excluded": HALF},
        {"named": HALF},
        {"covered": HALF},
        {"too_late": HALF},
        {"plan": AggregatePlan(fraction=0.5)},
    ],
    ids=lambda options: next(iter(options), "all"),
)
def test_who_takes_part(run: Run, options: dict[str, Any]) -> None:
    options = {name: fresh(v) if isinstance(v, tuple) else v for name, v in options.items()}
    invitation = Invitation(run, run.round(1), **{"plan": AggregatePlan(), **options})
    assert comparisons(lambda: participation(invitation)) < FEW
    assert len(participation(invitation).accepted) == COUNT // (2 if options else 1)


def test_who_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Round, "delivered", lambda self: [*fresh(HALF)])
    rule = resolve(AggregatePlan(strategy="fedbuff", buffer=COUNT))
    invitation = Invitation(run, run.round(1), AggregatePlan(), max_staleness=0)
    quorum = Quorum.of(invitation, rule, None)
    seen = participation(invitation)

    def check() -> None:
        with pytest.raises(NotReadyError):
            quorum.check(seen)

    assert comparisons(check) < FEW


def test_which_clients_are_named(run: Run) -> None:
    assert comparisons(lambda: run.choose_clients(fresh(HALF))) < FEW
    assert comparisons(lambda: run.choose_clients([",".join(HALF)])) < FEW


def test_clients_of_a_new_run(tmp_path: Path) -> None:
    start = Start(ModelInfo("linear"))
    assert comparisons(lambda: init(tmp_path / "new", "ab", clients=fresh(), start=start)) < FEW


def test_scores_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each score is described a few times, not once for every other score."""
    described = 0
    real = run_report.subject_of

    def counting(score: Score) -> Subject:
        nonlocal described
        described += 1
        return real(score)

    monkeypatch.setattr(run_report, "subject_of", counting)
    scores = tuple(
        Score("global", "validation", 10, 0.5, data_client=client) for client in map(str, IDS)
    )
    round_ = RoundReport(1, True, None, (), scores=scores)
    for number in range(COUNT):
        assert round_.score(real(scores[number])) is scores[number]
    assert described <= COUNT


# --- whole commands ----------------------------------------------------------------------------


def calls(words: list[str], cli: Callable[..., tuple[int, str, str]]) -> int:
    """How many functions and generators a command line enters."""
    count = 0

    def see(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        found, _, err = cli(*words, "--quiet")
    finally:
        sys.setprofile(before)
    assert found == 0, err
    return count


SIZES = (150, 300)
GROWTH = 2.5  # of twice the clients; a square takes 4 times as much


def delivered(root: Path, count: int) -> Run:
    run = new_run(root, tensors(0), tuple(map(str, range(count))))
    for client in run.info.clients:
        send(run, client, 1)
    return run


@pytest.mark.usefixtures("unsynced")
def test_commands(tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    """Each of two sizes of a run takes so many calls of every command, in the order of a round."""
    commands = [
        ["status", "--run"],
        ["aggregate", "--run"],
        ["aggregate", "--round", "1", "--run"],  # already done
        ["status", "--run"],
        ["verify", "--run"],
        ["report"],
        ["report", "--html", str(tmp_path / "page.html")],
        ["gc", "--keep-last", "1", "--run"],
    ]
    runs = [delivered(tmp_path / str(count), count) for count in SIZES]
    cli("status", "--run", runs[0].root)  # imports what commands share
    for words in commands:
        few, many = (calls([*words, str(run.root)], cli) for run in runs)
        assert many < GROWTH * few, words


@pytest.mark.usefixtures("unsynced")
def test_a_folder_of_strangers_files(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    runs = [new_run(tmp_path / str(count), tensors(0), ("0", "1")) for count in SIZES]
    for run, count in zip(runs, SIZES, strict=True):
        send(run, "0", 1)
        send(run, "1", 1)
        for number in range(count):
            (run.round(1).updates / f"x{number}.safetensors").write_bytes(b"a")
            (run.round(1).updates / f"-{number}.json").write_bytes(b"a")  # no id of a client
    for words in (["status"], ["aggregate"], ["verify"], ["status"]):
        few, many = (calls([*words, "--run", str(run.root)], cli) for run in runs)
        assert many < GROWTH * few, words
