"""Files of strangers: refused by their size before they are read, and listed up to a limit."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.handmade import new_run
from support.runs import accepted, deliver, tensors

from fedcli.errors import BadInputError, CheckpointError, ConflictError, UpdateError
from fedcli.evaluation.candidates import update_models
from fedcli.formats.checkpoint import save
from fedcli.formats.manifest import Absence, Manifest
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.training_record import TrainingRecord
from fedcli.progress import Silence
from fedcli.run import Run
from fedcli.run.client_state import StateStore
from fedcli.run.participation import LISTED, Participation
from fedcli.steps.aggregate import aggregate
from fedcli.steps.verify import verify
from fedcli.storage.atomic import read_json, write_json
from fedcli.storage.untrusted import InputFile

TERABYTE = 10**12


def a_run(root: Path, clients: tuple[str, ...]) -> Run:
    made = new_run(root / "fedrun", tensors(0), clients)
    for client in ("0", "1"):
        deliver(made, client, tensors(int(client) + 1))
    return made


def grow(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(TERABYTE)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file above 100 MB is read."""
    real = InputFile.read_into

    def read_into(self: InputFile, buffer: memoryview, offset: int) -> None:
        assert self.size < 100_000_000, f"{self.path} was read"
        real(self, buffer, offset)

    digest = InputFile.digest

    def digest_of(self: InputFile) -> str:
        assert self.size < 100_000_000, f"{self.path} was hashed"
        return digest(self)

    monkeypatch.setattr(InputFile, "read_into", read_into)
    monkeypatch.setattr(InputFile, "digest", digest_of)


@pytest.mark.usefixtures("unread")
def test_a_terabyte_in_place_of_an_update_is_refused_unread(tmp_path: Path) -> None:
    run = a_run(tmp_path, ("0", "1", "2"))
    deliver(run, "2", tensors(3))
    grow(run.round(1).update("2"))
    with pytest.raises(UpdateError, match="has 1000000000000 bytes, expected at most 16"):
        aggregate(run)
    result = aggregate(run, min_clients=2)
    assert accepted(result) == ["0", "1"]
    assert [(a.client, a.sha256) for a in result.rejected] == [("2", None)]
    assert aggregate(run, round_number=1, min_clients=2).already_done
    assert not [f for f in verify(run.root).findings if f.problem.value not in ("note",)]


@pytest.mark.usefixtures("unread")
def test_no_step_reads_a_terabyte(tmp_path: Path) -> None:
    run = a_run(tmp_path, ("0", "1"))
    grow(run.round(1).update("1"))
    with pytest.raises(BadInputError, match="it was not read"):
        update_models(StateStore(run, None), "latest", ["1"])
    findings = [finding.message for finding in verify(run.root).findings]
    assert any("it was not read" in message for message in findings)


def test_an_update_of_twice_the_models_size_is_read(tmp_path: Path) -> None:
    run = a_run(tmp_path, ("0", "1"))
    assert run.largest_update(1) == 4 * run.round(0).global_model.stat().st_size + 16_000_000
    assert run.largest_update(7) is None


@pytest.mark.parametrize("clients", [("0", "1"), ()])
def test_strangers_files_are_listed_up_to_a_limit(tmp_path: Path, clients: Any) -> None:
    run = a_run(tmp_path, clients)
    count = LISTED + 2_000
    for number in range(count):
        (run.round(1).updates / f"x{number}.safetensors").write_bytes(b"a")
    result = aggregate(run)
    assert accepted(result) == ["0", "1"]
    assert len(result.rejected) == LISTED
    assert result.unlisted == count - LISTED
    written = Manifest.read(run.round(1).manifest)
    assert written is not None
    assert written.unlisted == count - LISTED
    assert aggregate(run, round_number=1).already_done
    (run.round(1).updates / "1.safetensors").write_bytes(b"a")
    with pytest.raises(ConflictError):
        aggregate(run, round_number=1)


def test_clients_of_the_run_are_listed_before_strangers() -> None:
    strangers = [Absence(f"a{number}", "not a client of this run", 1) for number in range(5)]
    own = [Absence("z", "broken", 1)]
    seen = Participation((), (), tuple(own), (*strangers, *own), None)
    kept, unlisted = seen.listed(["z"], 3)
    assert kept.late == tuple(own)
    assert [absence.client for absence in kept.rejected] == ["z", "a0"]
    assert unlisted == 4
    assert seen.listed(["z"]) == (seen, 0)


def test_lines_about_bad_updates_are_few(tmp_path: Path) -> None:
    run = a_run(tmp_path, ())
    for number in range(50):
        (run.round(1).updates / f"x{number}.safetensors").write_bytes(b"a")

    class Said(Silence):
        lines: ClassVar[list[str]] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    aggregate(run, progress=Said())
    assert len(Said.lines) == 21
    assert Said.lines[-1] == "left out: 30 more clients; see aggregate.json"


@pytest.mark.parametrize(
    "value",
    [
        {"names": ["x" * 1000] * 40_000},  # 40 MB
        {"names": [{"a": 1, "b": 2, "c": 3}] * 300_000},  # takes 200 MB in memory
        {"count": 2**64},
        {"name": "\udcff"},
        {"loss": float("nan")},
    ],
)
def test_what_the_reader_refuses_is_not_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(BadInputError, match="was not written, because no fedcli could read it"):
        write_json(tmp_path / "record.json", value)
    assert not list(tmp_path.iterdir())


def test_the_largest_record_is_written_and_read(tmp_path: Path) -> None:
    value = {"names": ["x" * 1000] * 30_000}
    write_json(tmp_path / "record.json", value)
    assert read_json(tmp_path / "record.json") == value


@pytest.mark.parametrize(
    "changes",
    [
        {"updates": {f"client-{number}": "0" * 64 for number in range(200_000)}},
        {"roles": {f"tensor.{number}": Role.PARAMETER for number in range(300_000)}},
        {"training": TrainingRecord(options={"mine": "x" * 100_000})},
    ],
)
def test_a_header_the_reader_refuses_is_not_written(tmp_path: Path, changes: Any) -> None:
    with pytest.raises(CheckpointError, match="was not written, because no fedcli could read it"):
        save(tmp_path / "a.safetensors", {}, Metadata(Kind.GLOBAL, "run", **changes))
    assert not list(tmp_path.iterdir())
