"""Ledgers on the disk: nothing that was spent is ever lost, or counted twice."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.private import gaussian

from fedcli.errors import BadInputError
from fedcli.formats.ledger import LedgerEntry
from fedcli.run import Run
from fedcli.run.ledgers import LedgerStore
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
