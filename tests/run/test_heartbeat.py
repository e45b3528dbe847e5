"""What a client tells while it trains: written, read, shown, and left behind by the killed."""

import contextlib
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.runs import deliver, python, tensors

from fedcli.cli import execute
from fedcli.run import Run
from fedcli.run.heartbeat import HeartbeatWriter, read_training
from fedcli.steps.status import status
from fedcli.storage.atomic import read_json, write_json

pytestmark = pytest.mark.usefixtures("unsynced")


def live(run: Run, client: str = "0") -> HeartbeatWriter:
    return HeartbeatWriter(run.round(1), client, device="cuda:0", threads=2)


def facts(run: Run, client: str = "0") -> dict[str, Any]:
    return read_json(run.round(1).heartbeat(client))


def test_what_is_told_is_read_until_the_training_ends(tiny_run: Run) -> None:
    round_ = tiny_run.round(1)
    assert read_training(round_) == ()
    with live(tiny_run) as telling:
        telling.update(epoch=3, epochs=5, images_per_second=353.2, memory_bytes=1_200_000_000)
        (training,) = read_training(round_)
        assert (training.client, training.state, training.pid) == ("0", "training", os.getpid())
        assert (training.epoch, training.epochs, training.images_per_second) == (3, 5, 353.2)
        assert (training.device, training.threads) == ("cuda:0", 2)
        assert training.peak_memory_bytes == 1_200_000_000
        assert training.seconds_ago < 60
    assert read_training(round_) == ()
    assert not round_.heartbeat("0").parent.exists()


def test_it_is_removed_when_the_training_fails_and_leaves_the_others(tiny_run: Run) -> None:
    with live(tiny_run, "1") as other:
        other.update(epoch=1, epochs=2)
        with contextlib.suppress(KeyboardInterrupt), live(tiny_run) as telling:
            telling.update(epoch=1, epochs=2)
            raise KeyboardInterrupt
        assert [training.client for training in read_training(tiny_run.round(1))] == ["1"]


def test_it_may_be_told_with_every_batch(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = [0.0], []

    def write(path: Path, value: dict[str, Any], **_: Any) -> None:
        written.append(value["epoch"])
        clock[0] += slowness

    slowness = 0.001
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr("fedcli.formats.records.write_json", write)
    telling = live(tiny_run)
    for batch in range(1000):
        clock[0] += 0.01
        telling.update(epoch=batch, epochs=1000)
    assert 5 <= len(written) <= 10  # of 10 seconds
    slowness = 1.0  # a network share
    before = clock[0]
    for _ in range(100):
        clock[0] += 10
        telling.update(epoch=1, epochs=1000)
    assert sum(written[i] == 1 for i in range(len(written))) * slowness < 0.03 * (clock[0] - before)


def test_no_client_writes_where_another_one_does(tiny_run: Run) -> None:
    """Ids may have dots: ``a.training`` is a client too."""
    round_ = tiny_run.round(1)
    ids = ["a", "a.training", "a.json", "training", "a.training.json"]
    files = {
        path
        for client in ids
        for path in (round_.heartbeat(client), round_.telemetry(client), round_.update(client))
    }
    assert len(files) == 3 * len(ids)
    for client in ids:
        with_dots = live(tiny_run, client)
        with_dots.update(epoch=1, epochs=1)
    assert sorted(training.client for training in read_training(round_)) == sorted(ids)
    assert round_.delivered() == []


def test_a_disk_that_takes_nothing_stops_no_training(tiny_run: Run) -> None:
    tiny_run.round(1).path.mkdir()
    (tiny_run.round(1).path / "training").write_text("in the way")
    with live(tiny_run) as telling:
        telling.update(epoch=1, epochs=2)
    assert read_training(tiny_run.round(1)) == ()


def test_a_killed_client_is_said_to_be_stopped_until_it_trains_again(tiny_run: Run) -> None:
    code = (
        "import os; from pathlib import Path; from fedcli.run import Run\n"
        "from fedcli.run.heartbeat import HeartbeatWriter\n"
        f"round_ = Run.open(Path({str(tiny_run.root)!r})).round(1)\n"
        "with HeartbeatWriter(round_, '0', device='cpu', threads=1) as live:\n"
        "    live.update(epoch=1, epochs=2)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    python(code)
    (training,) = read_training(tiny_run.round(1))
    assert training.state == "stopped"
    assert status(tiny_run).next.startswith("fedcli train-client --id")
    with live(tiny_run) as telling:
        telling.update(epoch=1, epochs=2)
        assert read_training(tiny_run.round(1))[0].state == "training"
    assert read_training(tiny_run.round(1)) == ()


@pytest.mark.parametrize(
    ("host", "minutes", "state"),
    [
        ("elsewhere", 0, "training"),
        ("elsewhere", 5, "silent"),
        (None, 5, "silent"),
        ("elsewhere", -5, "training"),  # its clock is ahead
    ],
)
def test_who_has_not_been_heard_of_is_silent(
    tiny_run: Run, host: str | None, minutes: int, state: str
) -> None:
    live(tiny_run).update(epoch=1, epochs=2)
    values = facts(tiny_run)
    values["updated"] = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    write_json(tiny_run.round(1).heartbeat("0"), {**values, "host": host or values["host"]})
    (training,) = read_training(tiny_run.round(1))
    assert training.state == state
    assert training.seconds_ago >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"pid": 10**30},
        {"pid": None},
        {"updated": "yesterday"},
        {"updated": "2026-01-01T00:00:00"},
        {"epoch": "some"},
        {"images_per_second": []},
        {"host": {}, "epochs": None},
    ],
)
def test_what_is_not_understood_is_passed_over(tiny_run: Run, change: dict[str, Any]) -> None:
    live(tiny_run, "1").update(epoch=1, epochs=2)
    live(tiny_run).update(epoch=1, epochs=2)
    path = tiny_run.round(1).heartbeat("0")
    path.write_text(json.dumps({**facts(tiny_run), **change}))
    assert [training.client for training in read_training(tiny_run.round(1))] == ["1"]
    path.write_bytes(b"\xff")
    (path.parent / "no client.json").write_text("{}")
    assert [training.client for training in read_training(tiny_run.round(1))] == ["1"]


def test_status_shows_who_trains(tiny_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(tiny_run, "1", tensors(1))
    arguments = ["status", "--run", str(tiny_run.root)]
    with live(tiny_run) as telling:
        telling.update(epoch=3, epochs=5, images_per_second=353.2, memory_bytes=1_234_000_000)
        assert execute(arguments) == 0
        out = capsys.readouterr().out
        row = next(line for line in out.splitlines() if "cuda:0" in line)
        assert row.split()[0] == "0"
        assert all(text in row for text in ("3/5", "353", "1234.0 MB", "s ago"))
        assert max(map(len, out.split("at the coordinator:")[0].splitlines())) <= 80
        # whoever trains need not be told to
        assert "next: fedcli train-client --id 2" in out
        with live(tiny_run, "2") as third:
            third.update(epoch=1, epochs=5)
            assert "fedcli aggregate --wait" in status(tiny_run).next
            assert execute([*arguments, "--json"]) == 0
            value = json.loads(capsys.readouterr().out)
    assert value["delivered"] == ["1"]
    assert value["missing"] == ["0", "2"]
    first, second = value["training"]
    assert (first["client"], first["epoch"], first["epochs"]) == ("0", 3, 5)
    assert (first["state"], first["pid"]) == ("training", os.getpid())
    assert second["images_per_second"] is None


def test_a_short_training_writes_nothing(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [7.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with HeartbeatWriter(tiny_run.round(1), "0", device="cpu", threads=1, after=0.2) as telling:
        clock[0] += 0.19
        telling.update(epoch=1, epochs=2)
        assert read_training(tiny_run.round(1)) == ()
        clock[0] += 0.02
        telling.update(epoch=2, epochs=2)
        assert read_training(tiny_run.round(1))[0].epoch == 2


def test_nobody_waits_for_the_disk(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    with live(tiny_run) as telling:
        telling.update(epoch=1, epochs=2)
        assert facts(tiny_run)["epoch"] == 1
    assert flushed == []
