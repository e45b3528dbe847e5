"""Which clients are said to stand out: those that do, and hardly ever an honest one."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedcli.reporting.run_report import ClientRound, RoundReport
from fedcli.reporting.standouts import NOTES, left_out, marks_of, standout_notes
from fedcli.reporting.words import rounds_named

Updates = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)


def participation(client: int, **values: float | None) -> ClientRound:
    entry = ClientRound(
        str(client), num_examples=100, weight=0.1, bytes=1, update_round=1, norm=1.0, cosine=0.5
    )
    return replace(entry, **{"distance": 1.0, **values})


def round_of(clients: Sequence[ClientRound], number: int = 1) -> RoundReport:
    return RoundReport(
        number=number,
        complete=True,
        rule="fedavg",
        strategy="fedavg",
        reduce="mean",
        server_optimizer="sgd",
        weighting="examples",
        options={},
        sampled=None,
        clients=tuple(clients),
        partials=(),
        missing=(),
        late=(),
        rejected=(),
        bytes_up=None,
        bytes_down=None,
        bytes_total=None,
        training_seconds_max=None,
        training_seconds_sum=None,
        aggregation_seconds=None,
        evaluation_seconds=None,
        scores=(),
    )


def measured(updates: Updates, *, robust: bool = False) -> RoundReport:
    """A round of these updates (clients, parameters), combined by their mean or median."""
    middle = np.median(updates, axis=0)
    step = middle if robust else updates.mean(axis=0)
    lengths = np.linalg.norm(updates, axis=1)
    clients = []
    for client, (update, length) in enumerate(zip(updates, lengths, strict=True)):
        cosine = float(update @ step / length / np.linalg.norm(step)) if length else None
        distance = float(np.linalg.norm(update - middle))
        clients.append(participation(client, norm=float(length), cosine=cosine, distance=distance))
    return round_of(clients)


def honest(seed: int, *, count: int = 10, agreement: float = 1.0) -> Updates:
    """What all clients agree on and what each adds, of lengths that differ by up to 2."""
    rng = np.random.default_rng(seed)
    common = agreement * rng.standard_normal(2000)
    scales = rng.uniform(1, 2, (count, 1))
    return np.asarray(scales * (common + rng.standard_normal((count, 2000))))


class TestHonestClients:
    @given(SEEDS, st.integers(4, 40), st.floats(0, 3), st.booleans())
    def test_are_not_marked(self, seed: int, count: int, agreement: float, robust: bool) -> None:
        updates = honest(seed, count=count, agreement=agreement)
        assert marks_of(measured(updates, robust=robust)) == {}

    @given(SEEDS, st.integers(2, 5), st.booleans())
    def test_with_labels_of_their_own_are_not_marked(
        self, seed: int, groups: int, robust: bool
    ) -> None:
        # each group pulls its own directions up, and those of all others a little down
        directions = 2 * np.eye(groups) - 0.5
        rng = np.random.default_rng(seed)
        updates = np.repeat(np.repeat(directions, 2, axis=0), 500, axis=1)
        noise = rng.standard_normal(updates.shape)
        assert marks_of(measured(updates + noise, robust=robust)) == {}

    @given(st.integers(1, 3))
    def test_are_too_few_to_say_who_is_the_odd_one(self, count: int) -> None:
        clients = [participation(i, norm=1000.0**i, distance=1000.0**i) for i in range(count)]
        clients[-1] = replace(clients[-1], cosine=-1.0)
        assert marks_of(round_of(clients)) == {}

    def test_with_more_examples_may_change_more(self) -> None:
        clients = [participation(i) for i in range(9)]
        longer = participation(9, norm=6.0, distance=6.0)
        assert set(marks_of(round_of([*clients, longer]))) == {"9"}
        fed_more = replace(longer, num_examples=900)
        assert marks_of(round_of([*clients, fed_more])) == {}
        longest = replace(fed_more, norm=30.0)
        assert marks_of(round_of([*clients, longest]))["9"].norm == pytest.approx(30)

    def test_of_sizes_that_differ_by_factors_are_not_marked(self) -> None:
        norms = [0.1, 0.3, 1.0, 3.0, 9.0, 27.0]
        assert marks_of(round_of([participation(i, norm=n) for i, n in enumerate(norms)])) == {}

    def test_do_not_oppose_a_step_that_attackers_lead(self) -> None:
        updates = honest(0)
        updates[:2] *= -10
        assert set(marks_of(measured(updates))) == {"0", "1"}


class TestAttackers:
    @given(SEEDS, st.sampled_from(["flipped x20", "noise", "x20"]), st.booleans())
    def test_of_ten_two_are_marked_and_nobody_else(
        self, seed: int, attack: str, robust: bool
    ) -> None:
        updates = honest(seed)
        if attack == "noise":
            updates[:2] = 30 * np.random.default_rng([seed, 1]).standard_normal((2, 2000))
        else:
            updates[:2] *= -20 if attack == "flipped x20" else 20
        marks = marks_of(measured(updates, robust=robust))
        assert set(marks) == {"0", "1"}

    @given(SEEDS)
    def test_that_only_turn_their_update_round_are_marked(self, seed: int) -> None:
        updates = honest(seed)
        updates[:2] *= -1
        marks = marks_of(measured(updates, robust=True))
        assert {client for client, found in marks.items() if found.cosine is not None} == {"0", "1"}

    def test_that_send_back_what_they_were_given_are_marked(self) -> None:
        updates = honest(0)
        updates[3] = 0
        marks = marks_of(measured(updates))
        assert {client: found.words for client, found in marks.items()} == {"3": "changes nothing"}

    def test_are_not_marked_where_nobody_changes_anything(self) -> None:
        assert marks_of(measured(np.zeros((6, 10)))) == {}


class TestLeftOut:
    def test_by_krum_is_nobody_since_it_keeps_one(self) -> None:
        rounds = [
            round_of([participation(i, kept=i == 0) for i in range(10)], n) for n in range(1, 50)
        ]
        assert left_out(rounds) == {}

    def test_in_every_round_is_told_but_not_in_a_single_one(self) -> None:
        rounds = [
            round_of([participation(i, kept=i not in (3, 4 + n % 6)) for i in range(10)], n)
            for n in range(1, 13)
        ]
        assert left_out(rounds[:1]) == {}
        assert left_out(rounds) == {"3": (12, 12)}
        (note,) = standout_notes(rounds)
        assert note.text == "often left out by the rule: client 3 in 12 of 12 rounds"

    def test_by_chance_is_hardly_ever_told(self) -> None:
        rng = np.random.default_rng(0)
        told = 0
        for _ in range(100):
            rounds = []
            for number in range(1, 21):
                out = set(rng.choice(10, 3, replace=False).tolist())
                rounds.append(
                    round_of([participation(i, kept=i not in out) for i in range(10)], number)
                )
            told += len(left_out(rounds))
        assert told <= 10  # of 1000 clients, each by chance with at most 1 %


class TestOpposing:
    def rounds(self, against: set[int], of: int = 5) -> list[RoundReport]:
        cosines = [{3: -0.6} if number in against else {} for number in range(1, of + 1)]
        return [
            round_of([participation(i, cosine=own.get(i, 0.5)) for i in range(9)], number)
            for number, own in enumerate(cosines, 1)
        ]

    def test_now_and_then_is_what_honest_clients_with_other_labels_do(self) -> None:
        assert set(marks_of(self.rounds({4})[3])) == {"3"}
        assert standout_notes(self.rounds({4})) == []
        assert standout_notes(self.rounds({3, 5})) == []

    @pytest.mark.parametrize(("against", "of"), [({1}, 1), ({1, 2}, 2), ({1, 3, 4}, 5)])
    def test_in_most_rounds_is_told(self, against: set[int], of: int) -> None:
        (note,) = standout_notes(self.rounds(against, of))
        assert note.text.startswith("client 3 stands out: it opposes the step of the others")

    def test_does_not_hide_what_else_stands_out(self) -> None:
        rounds = self.rounds({4})
        far = [replace(c, norm=20.0) if c.client == "3" else c for c in rounds[3].clients]
        rounds[3] = round_of(far, 4)
        (note,) = standout_notes(rounds)
        assert note.text == (
            "client 3 stands out: its update is 20 times as long as the median (round 4)"
        )


class TestNotes:
    def test_are_one_a_client_however_many_rounds(self) -> None:
        rounds = [
            round_of([participation(i, norm=10.0 + n if i == 2 else 1.0) for i in range(5)], n)
            for n in (1, 2, 3, 7)
        ]
        (note,) = standout_notes(rounds)
        assert note.text == (
            "client 2 stands out: its update is 11 to 17 times as long as the median"
            " (rounds 1-3, 7)"
        )

    def test_are_not_too_many(self) -> None:
        far = [participation(i, norm=1.0 if i < 40 else 50.0) for i in range(60)]
        notes = standout_notes([round_of(far, number) for number in (1, 2)])
        assert len(notes) == NOTES + 1
        assert notes[-1].text.startswith("clients 50, 51, ")

    @given(SEEDS, st.randoms(use_true_random=False))
    def test_do_not_depend_on_the_order_or_the_unit(self, seed: int, random: Random) -> None:
        updates = honest(seed)
        updates[:2] *= -10
        clients = list(measured(updates, robust=True).clients)
        shuffled = list(clients)
        random.shuffle(shuffled)
        scaled = [
            replace(c, norm=(c.norm or 0) * 1024, distance=(c.distance or 0) * 1024)
            for c in shuffled
        ]
        assert standout_notes([round_of(clients)]) == standout_notes([round_of(scaled)])


@given(st.sets(st.integers(1, 40)))
def test_the_names_of_rounds_say_which_they_are(numbers: set[int]) -> None:
    text = rounds_named(numbers)
    spans, _, more = text.removeprefix("rounds ").removeprefix("round ").partition(" and ")
    said = set[int]()
    for span in filter(None, spans.split(", ")):
        first, _, last = span.partition("-")
        said |= set(range(int(first), int(last or first) + 1))
    assert said <= numbers
    assert len(numbers - said) == int(more.removesuffix(" more") or 0)
