"""No file of one client, and none that is optional, ends everybody's report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sample_runs import make_run

from fedcli.run import Run
from fedcli.storage.atomic import write_json

pytestmark = pytest.mark.usefixtures("unsynced")

OPTIONAL = [
    "data/partition.json",
    "rounds/0002/aggregate.json",
    "rounds/0002/evaluation.json",
    "rounds/0002/updates/1.json",
]
LARGEST, FLOATS = 2**63 - 1, (1.7e308, -1.7e308, 5e-324)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "fedrun")


def empty_object(path: Path) -> None:
    path.write_text("{}")


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("spoil", [empty_object, no_text, folder, link])
@pytest.mark.parametrize("name", OPTIONAL)
def test_what_cannot_be_used_is_left_out_and_named(
    run: Run, name: str, spoil: Callable[[Path], None], cli: Callable[..., tuple[int, str, str]]
) -> None:
    spoil(run.root / name)
    status, out, err = cli("report", run.root, "--json")
    assert (status, err) == (0, "")
    (found,) = json.loads(out)["runs"]
    notes = [note["text"] for note in found["notes"]]
    assert sum(note.startswith(f"{name} is left out of this report: ") for note in notes) == 1
    assert len(found["rounds"]) == 4
    assert found["rounds"][3]["clients"][1]["seconds"] is not None


def test_of_many_only_some_are_named(run: Run, cli: Callable[..., tuple[int, str, str]]) -> None:
    for number in (1, 2, 3):
        for client in "012":
            run.round(number).telemetry(client).write_text("{}")
        run.round(number).evaluation.write_text("[]")
    status, out, _ = cli("report", run.root)
    assert status == 0
    assert " ".join(out.split()).count("is left out of this report") == 10
    assert "2 more files cannot be used and are left out" in out


def extreme(value: Any, number: float) -> Any:
    """The same value with every number replaced."""
    if isinstance(value, dict):
        return {key: extreme(item, number) for key, item in value.items()}
    if isinstance(value, list):
        return [extreme(item, number) for item in value]
    if isinstance(value, float):
        return number
    return LARGEST if type(value) is int else value


@pytest.mark.parametrize("number", FLOATS)
@pytest.mark.parametrize("name", OPTIONAL)
def test_numbers_of_any_size_end_no_report(
    run: Run, name: str, number: float, cli: Callable[..., tuple[int, str, str]]
) -> None:
    """A file says what it likes, within its types; sums of it may overflow."""
    path = run.root / name
    found = {**extreme(json.loads(path.read_text()), number), "format": 1}
    write_json(path, found)
    if name.endswith("1.json"):
        write_json(path.with_name("2.json"), {**found, "client": "2"})
    pages = {f"--{kind}": run.root.parent / f"report.{kind}" for kind in ("html", "csv")}
    options = [word for pair in pages.items() for word in pair]
    for more in ([], ["--json"], options):
        status, out, err = cli("report", run.root, "--quiet", "--debug", *more)
        assert (status, err) == (0, ""), err
        assert "Traceback" not in out
