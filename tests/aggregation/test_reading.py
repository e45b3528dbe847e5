"""How often files are read, and how many are open at once: what the engine's speed rests on."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.handmade import edge, filled, wide
from support.runs import deliver, python

from fedcli.run import Run
from fedcli.steps.aggregate import aggregate

CLIENTS = tuple("0123456789")
pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return filled(tmp_path / "run", {client: wide(1 + int(client)) for client in CLIENTS})


class Counted:
    """``os.preadv`` that counts the bytes that it read."""

    def __init__(self) -> None:
        self.bytes = 0
        self.real = os.preadv

    def __call__(self, descriptor: int, buffers: Any, offset: int) -> int:
        count = self.real(descriptor, buffers, offset)
        self.bytes += count
        return count


def size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def updates(run: Run) -> list[Path]:
    return [run.round(1).update(client) for client in run.round(1).delivered()]


@pytest.mark.parametrize(
    ("options", "passes"),
    [({}, 1), ({"strategy": "median"}, 1), ({"strategy": "rfa"}, 2), ({"strategy": "krum"}, 1.1)],
)
def test_a_rule_reads_no_more_than_it_has_to(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], passes: float
) -> None:
    counted = Counted()
    monkeypatch.setattr(os, "preadv", counted)
    aggregate(run, options=options, diagnostics=False)
    base = run.round(0).global_model.stat().st_size
    assert passes * size(updates(run)) <= counted.bytes
    assert counted.bytes <= 1.1 * passes * size(updates(run)) + 4 * base


def test_a_partial_mean_is_read_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = [edge(run, "a", "0", "1", "2", "3"), edge(run, "b", "4", "5", "6", "7", "8", "9")]
    counted = Counted()
    monkeypatch.setattr(os, "preadv", counted)
    aggregate(run, members=edges, diagnostics=False)
    files = [Path(path) for path in edges]
    assert size(files) <= counted.bytes <= 1.1 * size(files)


def test_a_large_number_that_is_finite_is_not_looked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        name: np.full_like(value, 3e38)
        for name, value in wide(1).items()
        if value.dtype == np.float32
    }
    deliver(run, "9", {**wide(1), **values})
    counted = Counted()
    monkeypatch.setattr(os, "preadv", counted)
    aggregate(run, options={"strategy": "median"}, diagnostics=False)
    assert counted.bytes <= 1.1 * size(updates(run))


def test_more_partial_means_than_open_files(tmp_path: Path) -> None:
    names = tuple(str(number) for number in range(300))
    run = filled(tmp_path / "many", {name: {"w": np.float32([int(name), 1])} for name in names})
    edges = [edge(run, f"edge-{name}", name) for name in names]
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (280, 280));"
        "from fedcli.cli import execute; sys.exit(execute(sys.argv[1:]))"
    )
    words = ["aggregate", "--json", "--run", str(run.root), *edges]
    done = python(program, *words, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert len(done.json["partials"]) == 300
