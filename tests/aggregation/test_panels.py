"""Rules that compare all pairs of many updates: as of few, in memory that can be foreseen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.handmade import (
    ALL_ROLES,
    SEVEN,
    copied,
    engine,
    filled,
    loaded,
    new_run,
    of_every_kind,
)
from support.runs import deliver

from fedcli.aggregation import decide, distances, gram, panels
from fedcli.aggregation.admission import open_updates
from fedcli.aggregation.distances import PanelDistances
from fedcli.aggregation.gram import gram_matrix, open_base_models
from fedcli.aggregation.panels import Panels
from fedcli.errors import OutOfMemoryError, UpdateError
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.steps.aggregate import aggregate
from fedcli.strategies.selection import krum_of_many, krum_scores, lowest

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three updates are many, and a panel has five rows, with two partners at a time."""
    monkeypatch.setattr(gram, "FEW", 2)
    monkeypatch.setattr(decide, "FEW", 2)
    monkeypatch.setattr(panels, "PANEL", 5)
    monkeypatch.setattr(panels, "_PARTNERS", 2)
    monkeypatch.setattr(panels, "_BLOCK", 16 * 1024)


def every_kind(root: Path) -> Run:
    run = new_run(root, of_every_kind(0), SEVEN, ALL_ROLES)
    for client in SEVEN:
        deliver(run, client, of_every_kind(1 + int(client)), roles=ALL_ROLES)
    return run


def both_grams(run: Run) -> tuple[Any, Any]:
    accepted = [(1, client) for client in SEVEN]
    found = []
    for few in (1000, 2):
        with pytest.MonkeyPatch.context() as patch, open_updates(run, run.round(1), accepted) as o:
            patch.setattr(gram, "FEW", few)
            found.append(gram_matrix(o.base, o.updates, None, Silence()))
            assert len({update.digest() for update in o.updates}) == len(SEVEN)  # all were hashed
    return found[0], found[1]


@pytest.mark.usefixtures("many")
def test_panels_have_the_products_of_the_whole_matrix(tmp_path: Path) -> None:
    """Of every dtype and role, over panels that do not divide the number of updates."""
    whole, by_panels = both_grams(every_kind(tmp_path))
    np.testing.assert_allclose(by_panels, whole, rtol=1e-12)
    np.testing.assert_array_equal(by_panels, by_panels.T)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("strategy", ["krum", "multi-krum", "bulyan"])
def test_the_same_clients_are_chosen(
    tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = every_kind(tmp_path / "run")
    other = copied(run, tmp_path / "other")
    by_panels = engine(run, strategy)
    monkeypatch.setattr(gram, "FEW", 1000)
    monkeypatch.setattr(decide, "FEW", 1000)
    whole = engine(other, strategy)
    assert [c.kept for c in by_panels.clients] == [c.kept for c in whole.clients]
    assert by_panels.sha256 == whole.sha256


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("strategy", ["rfa", "foolsgold", "centered-clipping"])
def test_other_rules_weigh_the_same(
    tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = every_kind(tmp_path / "run")
    other = copied(run, tmp_path / "other")
    found = [client.weight for client in engine(run, strategy).clients]
    monkeypatch.setattr(gram, "FEW", 1000)
    expected = [client.weight for client in engine(other, strategy).clients]
    assert found == pytest.approx(expected, rel=1e-9)


# --- near ties, against distances in float64 ---------------------------------------------------


def scored(points: Any, byzantine: int) -> Any:
    """Krum's scores straight from the differences, without inner products."""
    apart = points[:, None, :] - points[None, :, :]
    return krum_scores((apart * apart).sum(axis=2), byzantine)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-4])
def test_near_ties_and_large_offsets(tmp_path: Path, offset: float, apart: float) -> None:
    """All updates share a step that is far longer than what tells them apart."""
    rng = np.random.default_rng(3)
    shape, count = (40, 50), 11
    base = {"w": np.zeros(shape, np.float32)}
    models = {
        str(i): {"w": (offset + apart * rng.standard_normal(shape)).astype(np.float32)}
        for i in range(count)
    }
    models["4"] = models["9"]  # a tie, which the first client wins
    run = new_run(tmp_path, base, tuple(models), {})
    for client, values in models.items():
        deliver(run, client, values, roles={})
    points = np.stack([m["w"].astype(np.float64).ravel() for m in models.values()])
    accepted = [(1, client) for client in models]
    with open_updates(run, run.round(1), accepted) as o, open_base_models([o.base]) as bases:
        measured = PanelDistances(Panels(o.base, o.updates, bases), Silence())
        for byzantine in (0, 2, 4):
            expected = scored(points, byzantine)
            for keep in range(1, count):
                found = krum_of_many(measured, byzantine, keep)
                assert found == lowest(expected, keep), (byzantine, keep)


@dataclass
class Held:
    """Distances that are known, in panels of twenty rows; counts what is asked for again."""

    values: Any
    again: int = 0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def panels(self) -> range:
        return range(0, len(self), 20)

    @property
    def squares(self) -> Any:
        return np.zeros(len(self.values))

    def rows(self, first: int) -> Any:
        with np.errstate(over="ignore"):
            return self.values[first : first + 20].astype(np.float32)

    def exact_rows(self, which: Sequence[int]) -> Any:
        self.again += len(which)
        return self.values[list(which)].copy()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 12), st.sampled_from([0.0, 1e-15, 1e-9, 1e-7, 1e-2]))
def test_the_choice_is_that_of_float64(seed: int, count: int, apart: float) -> None:
    """Distances in float32 are equal here where those in float64 are not."""
    rng = np.random.default_rng(seed)
    values = 1 + apart * rng.random((count, count))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 0)
    for byzantine in range((count - 3) // 2 + 1):
        for keep in range(1, count - byzantine):
            expected = lowest(krum_scores(values, byzantine), keep)
            chosen = krum_of_many(Held(values), byzantine, keep)
            scores = krum_scores(values, byzantine)
            if chosen != expected:  # sums in another order may differ in the last bit
                np.testing.assert_allclose(
                    np.sort(scores[list(chosen)]), np.sort(scores[list(expected)]), rtol=1e-15
                )


def test_only_what_is_nearly_tied_is_measured_again() -> None:
    points = np.random.default_rng(0).standard_normal((30, 5))
    apart = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    held = Held(apart)
    krum_of_many(held, 5, 1)
    assert held.again == 0
    points[7] = points[3]
    held = Held(((points[:, None] - points[None]) ** 2).sum(axis=2))
    best = krum_of_many(held, 5, 20)
    assert held.again <= 2  # of thirty
    assert len(best) == 20


def test_distances_beyond_float32_are_compared_in_float64() -> None:
    values = np.array([[0, 4, 9], [4, 0, 1], [9, 1, 0]]) * 1e60
    assert krum_of_many(Held(values), 0, 1) == lowest(krum_scores(values, 0), 1) == (1,)


# --- what does not fit -------------------------------------------------------------------------


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("strategy", "arithmetic"),
    [
        ("krum", "7² / 2 distances of 4 bytes"),
        ("rfa", "7² inner products of 8 bytes"),
        ("bulyan", "7² inner products and their order, 9 bytes each"),
    ],
)
def test_what_no_memory_holds_is_refused_unread(
    tmp_path: Path, strategy: str, arithmetic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = every_kind(tmp_path)
    monkeypatch.setattr(distances, "available_memory", lambda: 10_000_000)

    def read_into(*_: object) -> None:
        raise AssertionError("an update was read")

    monkeypatch.setattr(UpdateTensors, "read_into", read_into)
    with pytest.raises(OutOfMemoryError) as caught:
        engine(run, strategy)
    assert arithmetic in str(caught.value)
    assert "0.01 GB are available" in str(caught.value)
    assert caught.value.status == 6
    assert "--clients-per-round" in str(caught.value.hint)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN or infinite"), (3e38, "overflows")])
def test_values_that_are_not_finite_are_named(tmp_path: Path, value: float, words: str) -> None:
    models = {c: {"w": np.full(10, float(c), np.float64)} for c in SEVEN}
    run = filled(tmp_path, models)
    bad = np.full(10, value * (1e200 if words == "overflows" else 1))
    deliver(run, "5", {"w": bad})
    with pytest.raises(UpdateError, match=f"(?s)5.safetensors.*{words}"):
        aggregate(run, options={"strategy": "krum"}, strict=True)
    assert not run.round(1).global_model.exists()
    assert loaded(run.round(0).global_model)["w"][0] == 0
