"""The page of the run directory names every key of every file, and no other."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
from support.pages import ROOT

from fedcli.formats.copies import CopyFile, ReceiptsFile
from fedcli.formats.evaluation import Evaluation
from fedcli.formats.ledger import Ledger
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Metadata
from fedcli.formats.partition import PartitionFile
from fedcli.formats.telemetry import Telemetry
from fedcli.formats.training_record import InterruptedRecord, ServerRecord, TrainingRecord
from fedcli.plan import Plan
from fedcli.run.active_run import RunMark
from fedcli.run.heartbeat import Heartbeat
from fedcli.run.info import RunInfo
from fedcli.security.signatures import Signature

PAGE = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
FILES = {
    "run.json": RunInfo,
    "data/partition.json": PartitionFile,
    "updates/ID.json": Telemetry,
    "ID.sig and global.sig": Signature,
    "training/ID.json": Heartbeat,
    "copy.json": CopyFile,
    "receipts.json": ReceiptsFile,
    "running.json": RunMark,
    "aggregate.json": Manifest,
    "privacy/ID.json": Ledger,
    "evaluation.json": Evaluation,
}
Rows = list[tuple[tuple[str, ...], bool, str]]


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    _, _, rest = PAGE.partition(f" {heading}\n")
    return re.split(r"^#+ ", rest, flags=re.MULTILINE)[0]


def rows(text: str) -> Rows:
    """The rows of tables of keys: the keys, whether they are nested, and the whole row."""
    found = [line for line in text.splitlines() if re.match(r"\| (… )?`", line)]
    cells = [(line.split("|")[1], line) for line in found]
    return [(tuple(re.findall(r"`(\w+)`", cell)), "…" in cell, line) for cell, line in cells]


def records(hint: Any) -> Iterator[Any]:
    """The records in a type such as ``tuple[Score, ...]``, and in these; the plan has a page."""
    if is_dataclass(hint) and hint is not Plan:
        yield hint
        yield from itertools.chain(*keys(hint).values())
    for argument in get_args(hint):
        yield from records(argument)


def keys(record: Any) -> dict[str, list[Any]]:
    """The keys of a record, each with the records that it may hold."""
    hints = get_type_hints(record)
    found: dict[str, list[Any]] = {}
    for field in fields(record):
        if not field.metadata.get("rest"):
            nested = list(records(hints[field.name]))
            found.setdefault(field.metadata.get("key", field.name), []).extend(nested)
    return found


@pytest.mark.parametrize("heading", FILES)
def test_every_key_of_a_file_is_documented_and_no_other(heading: str) -> None:
    record, table = FILES[heading], rows(section(heading))
    top = {key for names, nested, _ in table if not nested for key in names}
    assert top == keys(record).keys() | {"format"} | ({"id"} if record is RunInfo else set())
    texts = defaultdict[Any, str](str)  # one record may be held by several keys
    for key, held in keys(record).items():
        row, *below = family(table, key)
        for part in held:
            texts[part] += row[2] + "".join(line for _, _, line in below)
        nested = {name for names, _, _ in below for name in names}
        assert not held or nested <= set().union(*map(keys, held))
    for part, text in texts.items():
        assert keys(part).keys() <= set(re.findall(r"`(\w+)`", text)), part


def family(table: Rows, key: str) -> Rows:
    """The row of a key, and the nested rows below it."""
    start = next(i for i, (names, nested, _) in enumerate(table) if key in names and not nested)
    below = itertools.takewhile(lambda row: row[1], table[start + 1 :])
    return [table[start], *below]


def test_every_key_of_a_checkpoint_is_documented_and_no_other() -> None:
    metadata, _, _ = section("Checkpoints").partition("| role |")
    assert {key for names, _, _ in rows(metadata) for key in names} == keys(Metadata).keys()
    training = rows(section("The training record"))
    expected = [keys(record) for record in (TrainingRecord, ServerRecord, InterruptedRecord)]
    assert {key for names, _, _ in training for key in names} == set().union(*expected)
