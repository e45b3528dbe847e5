"""Ledgers on the disk: nothing that was spent is ever lost, or counted twice."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.private import gaussian

from fedcli.errors import BadInputError, BudgetError
from fedcli.formats.ledger import LedgerEntry
from fedcli.formats.manifest import Manifest
from fedcli.privacy import PrivacyLimit, epsilon_at
from fedcli.run import Run
from fedcli.run.ledgers import LedgerStore, check_sums, spent_by_sums
from fedcli.steps.gc import gc

ENTRY = LedgerEntry("run", 1, 1, "a" * 64, gaussian(5))


def test_entries_add_up_and_count_once(tiny_run: Run, tmp_path: Path) -> None:
    for store in (LedgerStore(tiny_run), LedgerStore(tiny_run, tmp_path / "own" / "folder")):
        assert store.read("0").entries == ()
        for entry in (ENTRY, replace(ENTRY, round=2), ENTRY):
            store.add("0", entry)
        assert store.read("0").entries == (ENTRY, replace(ENTRY, round=2))
        assert store.read("1").entries == ()
        assert store.holders() == ["0"]
    assert LedgerStore(tiny_run).path("0") == tiny_run.root / "privacy" / "0.json"


def test_writers_at_the_same_time_lose_nothing(tiny_run: Run) -> None:
    store = LedgerStore(tiny_run)
    entries = [replace(ENTRY, round=number) for number in range(1, 41)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda entry: store.add("0", entry), entries))
    assert list(store.read("0").entries) == entries


@pytest.mark.parametrize("content", ["", "{", '{"entries": [1]}'])
def test_a_broken_ledger_is_no_empty_one(tiny_run: Run, content: str) -> None:
    store = LedgerStore(tiny_run)
    store.add("0", ENTRY)
    store.path("0").write_text(content)
    for use in (lambda: store.read("0"), lambda: store.add("0", ENTRY)):
        with pytest.raises(BadInputError, match=r"privacy/0\.json") as caught:
            use()
        assert caught.value.hint == (
            "put a copy back: without it nobody knows what this client has spent"
        )
    assert store.path("0").read_text() == content


def test_gc_never_touches_a_ledger(tiny_run: Run) -> None:
    store = LedgerStore(tiny_run)
    store.add("0", ENTRY)
    for number in range(1, 5):
        before, after = tiny_run.round(number - 1), tiny_run.round(number)
        after.path.mkdir(exist_ok=True)
        shutil.copy(before.global_model, after.global_model)
    gc(tiny_run, 1)
    assert store.read("0").entries == (ENTRY,)


def manifest_with(run: Run, number: int, entries: tuple[LedgerEntry, ...]) -> Manifest:
    made = replace(MANIFEST, round=number, privacy=entries)
    made.write(run.round(number).manifest)
    return made


MANIFEST = Manifest(
    round=1,
    strategy="fedavg",
    reduce="mean",
    server_optimizer="none",
    weighting="uniform",
    options={},
    base="",
    global_model="",
    server_state=None,
    sampled=None,
    accepted=(),
    partials=(),
    missing=(),
    late=(),
    rejected=(),
    seconds=0.0,
)


def test_sums_over_clients_add_up_over_the_manifests_of_a_run(tiny_run: Run) -> None:
    assert spent_by_sums(tiny_run).entries == ()
    forced = replace(ENTRY, inputs="b" * 64)
    manifest_with(tiny_run, 1, (ENTRY, forced))
    manifest_with(tiny_run, 2, (replace(ENTRY, round=2),))
    assert spent_by_sums(tiny_run).events == (gaussian(5),) * 3
    planned = replace(ENTRY, round=3)
    enough = PrivacyLimit(epsilon_at([gaussian(5, 4)], 1e-5), 1e-5)
    check_sums(tiny_run, [planned], enough)
    check_sums(tiny_run, [planned], None)
    tight = replace(enough, epsilon=enough.epsilon - 1e-6)
    check_sums(tiny_run, [forced], tight)  # which is paid
    with pytest.raises(BudgetError, match="more than --max-epsilon"):
        check_sums(tiny_run, [planned], tight)


def test_a_broken_manifest_hides_nothing(tiny_run: Run) -> None:
    manifest_with(tiny_run, 1, (ENTRY,))
    tiny_run.round(1).manifest.write_text("{")
    with pytest.raises(BadInputError, match=r"0001/aggregate\.json") as caught:
        spent_by_sums(tiny_run)
    assert "nobody knows what the round has spent" in str(caught.value.hint)
