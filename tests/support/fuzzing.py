"""Mutated files of a run: each is refused by name, or read as what it says.

A short run is part of the tests; a longer one by hand::

    cd tests && python -m support.fuzzing --count 1000000 --seed 7

The files of ``corpus/run`` are changed as ``mutations`` does, each case from a seed of its own, and
given to fedcli's readers. A case fails when a reader ends in anything but a ``FedcliError`` whose
one line names the file, when it takes longer than ten seconds, and when what it takes is not what
``said`` finds in the file by other means. Failing files are kept with ``--keep DIR``.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.datasets.shards import read_shard
from fedcli.errors import FedcliError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.evaluation import Evaluation
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind
from fedcli.formats.partition import PartitionFile
from fedcli.formats.records import FileRecord
from fedcli.formats.telemetry import Telemetry
from fedcli.run import Run
from fedcli.run.heartbeat import read_training
from fedcli.run.info import run_id
from fedcli.run.round import Round
from support import said
from support.mutations import mutate

CORPUS = Path(__file__).parent / "corpus" / "run"
SECONDS = 10  # that a case may take, on a busy machine


def _checkpoint(kind: Kind) -> Callable[[Path], str | None]:
    def look(path: Path) -> str | None:
        with Checkpoint(path, kind) as found:
            tensors, metadata = found.tensors(), found.metadata
        return said.checkpoint_fault(path.read_bytes(), metadata, tensors)

    return look


def _shard(path: Path) -> str | None:
    examples = read_shard(path, Run.open(CORPUS))
    data = path.read_bytes()
    with Checkpoint(path, Kind.SHARD) as found:
        metadata = found.metadata
    if len(examples) != len(examples.x) or metadata.num_examples not in (None, len(examples)):
        return "as many labels as examples, and as it says"
    if examples.x.dtype not in ("uint8", "float32") or min(examples.y, default=0) < 0:
        return "examples or labels that are none"
    return said.checkpoint_fault(data, metadata, {"x": examples.x, "y": examples.y})


def _run(path: Path) -> str | None:
    return said.run_fault(path.read_bytes(), Run.open(path.parent))


def _record(record: type[FileRecord], kind: Any) -> Callable[[Path], str | None]:
    def look(path: Path) -> str | None:
        return said.record_fault(kind, path.read_bytes(), record.read(path))

    return look


def _live(path: Path) -> str | None:
    trainings = read_training(Round(path.parents[3], 2))
    if not trainings:
        raise FedcliError(f"{path}: passed over")
    told = said.strict(path.read_bytes())
    names = ("host", "pid", "device", "epoch", "epochs", "threads", "images_per_second")
    wrong = [n for n in names if not said.same(getattr(trainings[0], n), told.get(n))]
    return f"{wrong[0]} is not what the file says" if wrong else None


@dataclass(frozen=True)
class Target:
    """A file of the corpus, and who reads it: what ``look`` returns is wrong with the value."""

    path: str
    look: Callable[[Path], str | None]


TARGETS = [
    Target("rounds/0000/global.safetensors", _checkpoint(Kind.GLOBAL)),
    Target("rounds/0001/global.safetensors", _checkpoint(Kind.GLOBAL)),
    Target("rounds/0001/updates/mercy-hospital.safetensors", _checkpoint(Kind.UPDATE)),
    Target("rounds/0001/server_state.safetensors", _checkpoint(Kind.SERVER_STATE)),
    Target("rounds/0001/client_state/0.safetensors", _checkpoint(Kind.CLIENT_STATE)),
    Target("data/client-0.safetensors", _shard),
    Target("data/test.safetensors", _shard),
    Target("run.json", _run),
    Target("run.json", _run),
    Target("rounds/0001/aggregate.json", _record(Manifest, said.MANIFEST)),
    Target("rounds/0001/aggregate.json", _record(Manifest, said.MANIFEST)),
    Target("rounds/0001/evaluation.json", _record(Evaluation, said.EVALUATION)),
    Target("rounds/0001/updates/0.json", _record(Telemetry, said.TELEMETRY)),
    Target("data/partition.json", _record(PartitionFile, said.PARTITION)),
    Target("rounds/0002/training/0.json", _live),
]


class TooLong(BaseException):
    """A case took more than ``SECONDS``."""


def _alarm(*_: object) -> None:
    raise TooLong


def with_id(data: bytes) -> bytes:
    """Give a changed run.json the id of its content, as whoever changes it on purpose would."""
    try:
        values = said.strict(data)
        return json.dumps({**values, "id": run_id(values)}).encode()
    except (ValueError, TypeError, RecursionError):
        return data


def case(seed: str, target: Target, corpus: dict[str, bytes]) -> bytes:
    """Make the file of one case."""
    rng = random.Random(seed)
    data = mutate(rng, corpus[target.path], list(corpus.values()))
    if target.path == "run.json" and rng.random() < 0.7:
        return with_id(data)
    return data


def outcome(target: Target, path: Path) -> tuple[str, str]:
    """Read one file: ``taken``, ``refused`` or ``failed``, and what was said."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        wrong = target.look(path)
        return ("taken", "") if wrong is None else ("failed", f"wrong value taken: {wrong}")
    except FedcliError as error:
        line = error.message
        if str(path) in line and line.isprintable() and len(line) <= 4000:
            return "refused", line
        return "failed", f"a poor message: {line[:200]!r}"
    except TooLong:
        return "failed", "too slow"
    except Exception:
        return "failed", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def peak_memory() -> int:
    """Return the most memory that this process had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def fuzz(count: int, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """Run ``count`` cases; returns how they ended by file, and the first failures."""
    corpus = {str(p.relative_to(CORPUS)): p.read_bytes() for p in CORPUS.rglob("*") if p.is_file()}
    counts: Counter[str] = Counter()
    failures: list[str] = []
    signal.signal(signal.SIGALRM, _alarm)
    memory_disk = Path("/dev/shm")  # so many small files take long on a disk that is busy
    with tempfile.TemporaryDirectory(dir=memory_disk if memory_disk.is_dir() else None) as root:
        for target in TARGETS:
            Path(root, target.path).parent.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            target = TARGETS[number % len(TARGETS)]
            path = Path(root, target.path)
            path.write_bytes(case(f"{seed}/{number}", target, corpus))
            how, text = outcome(target, path)
            counts[f"{target.path} {how}"] += 1
            if how == "failed":
                failures.append(f"{seed}/{number} {target.path}: {text}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    path.rename(keep / f"{seed}-{number}-{path.name}")
    return {
        "counts": dict(sorted(counts.items())),
        "failures": failures,
        "peak_memory": peak_memory(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Give mutated files to fedcli's readers.")
    parser.add_argument("--count", type=int, default=100_000, help="how many files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where to keep the files that fail")
    options = parser.parse_args()
    result = fuzz(options.count, options.seed, options.keep)
    print(json.dumps({**result, "failures": result["failures"][:20]}, indent=2))
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
