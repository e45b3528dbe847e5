"""The time that remaining rounds will take, and how a run says it."""

import io
import sys

import pytest
from rich.console import Console

from fedcli.cli.options.shared import OutputOptions
from fedcli.cli.render.output import Output
from fedcli.execution.pace import Pace, in_words


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def play(pace: Pace, clock: Clock, number: int, seconds: float, *, counts: bool = True) -> float:
    pace.begin(number)
    clock.now += seconds
    return pace.finish(counts=counts)


def test_nothing_is_promised_before_a_round_is_finished() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock)
    assert pace.label() == "scoring rounds"
    assert pace.seconds_left() is None
    pace.begin(3)
    assert pace.label() == "round 3/10"
    clock.now += 60
    assert pace.label() == "round 3/10"
    assert pace.finish(counts=True) == 60
    assert pace.after(3) == "about 7 min left"


def test_the_estimate_counts_down_within_a_round_and_no_further() -> None:
    clock = Clock()
    pace = Pace(4, clock=clock)
    play(pace, clock, 1, 120)
    pace.begin(2)
    assert pace.label() == "round 2/4, about 6 min left"
    clock.now += 60
    assert pace.label() == "round 2/4, about 5 min left"
    assert pace.seconds_left() == 300
    clock.now += 600
    assert pace.label() == "round 2/4, about 4 min left"


def test_a_round_whose_clients_had_delivered_says_nothing_of_others() -> None:
    clock = Clock()
    pace = Pace(4, clock=clock)
    assert play(pace, clock, 1, 1, counts=False) == 1
    assert pace.after(1) is None
    play(pace, clock, 2, 120)
    assert pace.after(2) == "about 4 min left"
    assert pace.after(4) is None


def test_the_latest_rounds_count() -> None:
    clock = Clock()
    pace = Pace(20, clock=clock)
    play(pace, clock, 1, 3600)
    for number in range(2, 7):
        play(pace, clock, number, 60)
    assert pace.after(6) == "about 14 min left"


def test_a_run_that_may_end_early_takes_at_most_that_long() -> None:
    clock = Clock()
    pace = Pace(5, may_end_early=True, clock=clock)
    play(pace, clock, 1, 30)
    assert pace.after(1) == "at most 2 min left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "1 s"),
        (9.4, "9 s"),
        (9.6, "10 s"),
        (94, "90 s"),
        (96, "2 min"),
        (240, "4 min"),
        (5969, "99 min"),
        (5971, "1.7 h"),
        (7200, "2 h"),
        (12000, "3.3 h"),
        (172799, "48 h"),
        (172800, "2 days"),
        (1e300, "999 days"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_bar_shows_what_a_label_says_now_and_no_second_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    output, shown = Output("run", OutputOptions()), io.StringIO()
    output.log = Console(file=shown, force_terminal=True, width=60)
    said = iter(["round 1/2", "round 2/2, about 4 min left"])
    last = [""]

    def label() -> str:
        last[0] = next(said, last[0])
        return last[0]

    with output:
        output.start(label, 4)
        output.advance(2)
    assert "round 2/2, about 4 min left" in shown.getvalue()
    assert "2/4" not in shown.getvalue()
    assert "-:--" not in shown.getvalue()
