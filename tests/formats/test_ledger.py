"""What a ledger holds: one entry for a step on its inputs, never fewer."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.private import REPLACE, discrete, gaussian, sampled

from fedcli.errors import BadInputError
from fedcli.formats.ledger import Ledger, LedgerEntry, PrivacyEvent
from fedcli.formats.records import decode, encode
from fedcli.privacy import epsilon_at

events = st.sampled_from([gaussian(1), gaussian(5, 10, REPLACE), discrete(2, 1e-4, 9)])
entries = st.builds(
    LedgerEntry,
    run=st.sampled_from(["a", "b"]),
    round=st.integers(1, 3),
    attempt=st.integers(0, 1),
    inputs=st.sampled_from(["0" * 64, "f" * 64]),
    event=events,
)
several = st.lists(entries, max_size=6)
ENTRY = LedgerEntry("run", 1, 0, "a" * 64, gaussian(5))


def test_the_same_step_on_the_same_inputs_is_one_event() -> None:
    assert Ledger().merged([ENTRY]).merged([ENTRY]).events == (gaussian(5),)


@pytest.mark.parametrize(
    "other",
    [
        replace(ENTRY, inputs="b" * 64),
        replace(ENTRY, attempt=1),
        replace(ENTRY, round=2),
        replace(ENTRY, run="another"),
        replace(ENTRY, event=gaussian(6)),
    ],
)
def test_anything_else_is_one_more(other: LedgerEntry) -> None:
    assert len(Ledger((ENTRY,)).merged([other]).events) == 2


@given(one=several, other=several, third=several)
def test_merging_is_a_union(
    one: list[LedgerEntry], other: list[LedgerEntry], third: list[LedgerEntry]
) -> None:
    a, b, c = (Ledger().merged(each) for each in (one, other, third))
    assert a.merged(b.entries) == b.merged(a.entries)
    assert a.merged(b.entries).merged(c.entries) == a.merged(b.merged(c.entries).entries)
    assert a.merged(a.entries) == a
    assert set(a.entries) == set(one)


@given(one=several, other=several)
def test_merging_never_makes_epsilon_smaller(
    one: list[LedgerEntry], other: list[LedgerEntry]
) -> None:
    before, after = Ledger().merged(one), Ledger().merged([*one, *other])
    assert epsilon_at(after.events, 1e-5) >= epsilon_at(before.events, 1e-5)


@given(one=several)
def test_a_file_holds_all_of_it(tmp_path_factory: pytest.TempPathFactory, one: Any) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.json"
    ledger = Ledger().merged(one)
    ledger.write(path)
    assert Ledger.read(path) == ledger
    assert "epsilon" not in path.read_text()


def test_the_keys_of_an_event() -> None:
    assert encode(sampled(0.01, 1.1, 600)) == {
        "mechanism": "poisson-gaussian",
        "sigma": 1.1,
        "clip": 1.0,
        "divisor": 1.0,
        "relation": "add-remove",
        "q": 0.01,
        "count": 600,
    }
    assert {"grid": 0.5, "coordinates": 9}.items() <= encode(discrete(1, 0.5, 9)).items()


BAD = {
    "sigma": [-1.0, math.nan, math.inf],
    "clip": [0.0, -1.0, math.nan, math.inf, None],
    "divisor": [0.0, -3.0, math.nan],
    "q": [0.0, 1.5, -0.1, math.nan, 0.5],
    "count": [0, -1],
    "grid": [0.0, -1.0, math.nan, None],
    "coordinates": [0, -1, None],
    "parties": [0, -1],
}


@pytest.mark.parametrize(("name", "value"), [(key, one) for key in BAD for one in BAD[key]])
def test_values_that_no_mechanism_has_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^privacy event: {name}: expected .*, found "):
        replace(discrete(1, 0.5, 9), **{name: value})


def test_only_discrete_noise_has_a_grid() -> None:
    with pytest.raises(ValueError, match="grid: expected no value with gaussian"):
        replace(gaussian(1), grid=0.1, coordinates=3)
    with pytest.raises(ValueError, match="parties: expected no value with gaussian"):
        replace(gaussian(1), parties=3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": "A" * 64}, "entries[0].inputs: expected a SHA-256 of 64 hex digits, found"),
        ({"round": -1}, "entries[0].round: expected 0 or more, found -1"),
        ({"event": {"mechanism": "laplace"}}, "expected one of gaussian, discrete-gaussian"),
        ({"event": {"sigma": -1}}, "sigma: expected 0 or more, found -1"),
        ({"event": {"q": "half"}}, "entries[0].event.q: expected float, found str"),
        ({"event": {"count": 1.5}}, "entries[0].event.count: expected int, found float"),
    ],
)
def test_a_strange_file_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    path = tmp_path / "ledger.json"
    values = encode(Ledger((ENTRY,)))
    (entry,) = values["entries"]
    event = entry["event"] | change.pop("event", {})
    path.write_text(json.dumps({"entries": [entry | change | {"event": event}]}))
    with pytest.raises(BadInputError) as caught:
        Ledger.read(path)
    assert named in caught.value.message


def test_an_entry_that_is_listed_twice_is_refused() -> None:
    values = json.loads(json.dumps(encode(Ledger((ENTRY,)))))
    with pytest.raises(ValueError, match="expected different ones, found one twice"):
        decode(Ledger, {"entries": values["entries"] * 2})


def test_an_event_is_read_as_it_was_written() -> None:
    for event in (gaussian(5, 2, REPLACE), sampled(0.1, 1), discrete(1, 0.5, 9)):
        assert decode(PrivacyEvent, json.loads(json.dumps(encode(event)))) == event
