"""Read data as training would, and say how it was understood and what is likely wrong."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fedcli.datasets import DATASETS, DataOptions
from fedcli.datasets.folder_tree import LeftOut
from fedcli.datasets.listing import unknown_range
from fedcli.datasets.survey import DataSurvey, survey
from fedcli.datasets.suspicions import Duplicate, Evidence, duplicates_of, suspicions
from fedcli.datasets.windows import proposal
from fedcli.errors import BadFilesError, DataError, NotReadyError
from fedcli.options import NONE, Given
from fedcli.partitioning.counts import label_counts
from fedcli.plan.sections import option_words
from fedcli.progress import Progress, Silence
from fedcli.run import Run


@dataclass(frozen=True)
class Span:
    """The least, the median and the greatest of some figures."""

    least: float
    median: float
    greatest: float


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be decoded, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class CheckResult:
    """The result of ``check``.

    ``counts`` are examples per class, by part, in the order of ``classes``; ``shape`` is that of an
    example in training. ``modes`` and ``bits`` count examples as they are stored; ``values`` is the
    range of their values. ``usable`` means that training would take the data.
    """

    data: str
    usable: bool
    understood: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Mapping[str, Sequence[int]]
    groups: tuple[str, ...]
    shape: tuple[int, ...]
    left_out: tuple[LeftOut, ...]
    width: Span | None
    height: Span | None
    modes: Mapping[str, int]
    bits: Mapping[str, int]
    values: tuple[float, float] | None
    bad: tuple[BadFile, ...]
    duplicates: tuple[Duplicate, ...]
    likely_wrong: tuple[str, ...]
    next: str


def check(
    data: str,
    *,
    run: Run | None = None,
    reading: Given = NONE,
    options: DataOptions | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Read a folder, an npz file, or a data set by name, as training would.

    With ``run``, it is read as a client's own data of that run. ``reading`` has options of an
    imagefolder, by name. Each file is decoded once.

    Raises ``NotReadyError``, ``UsageError``, ``StorageError``, and ``DataError`` for data that
    cannot be understood; files that cannot be decoded are in the result.
    """
    spec, options = _spec(data), options or DataOptions()
    said = replace(options, progress=progress or Silence())
    found = survey(spec, None if run is None else run.info.dataset, reading, said)
    return _result(data, spec, found, run, reading, options.window)


def _spec(data: str) -> str:
    """Return what ``--dataset`` would take for ``--data``."""
    name = data.partition(":")[0]
    if name in DATASETS and (name != data or DATASETS[name].takes is None):
        return data
    path = Path(data).expanduser()
    if not path.exists():
        raise NotReadyError(
            f"--data {data}: no such file or folder, and no data set of this name",
            hint=f"the data sets are: {', '.join(DATASETS)}",
        )
    return f"{'imagefolder' if path.is_dir() else 'npz'}:{data}"


def _result(
    data: str, spec: str, found: DataSurvey, run: Run | None, reading: Given, window: str | None
) -> CheckResult:
    facts = found.facts
    counts = {part: _counts(found, part) for part in found.parts}
    duplicates = tuple(duplicates_of(facts))
    evidence = Evidence(facts, found.classes, counts, duplicates)
    usable = bool(facts) and (not found.errors or bool(reading.get("skip_bad")))
    sized = [one for one in facts if one.width]
    return CheckResult(
        data=data,
        usable=usable,
        understood=tuple(found.lines),
        classes=found.classes,
        counts=counts,
        groups=found.groups,
        shape=found.shape,
        left_out=found.left_out,
        width=_span([one.width for one in sized]),
        height=_span([one.height for one in sized]),
        modes=dict(Counter(one.mode for one in facts).most_common()),
        bits={str(bits): n for bits, n in sorted(Counter(one.bits for one in facts).items())},
        values=(min(f.low for f in facts), max(f.high for f in facts)) if facts else None,
        bad=tuple(one for error in found.errors for one in _bad(error)),
        duplicates=duplicates,
        likely_wrong=tuple(suspicions(evidence)),
        next=_next(data, spec, run, {**reading, **_window(found, run, window)}, usable=usable),
    )


def _counts(found: DataSurvey, part: str) -> list[int]:
    labels = np.array([one.label for one in found.facts if one.part == part], np.int64)
    return label_counts(labels, len(found.classes))


def _span(figures: Sequence[int]) -> Span | None:
    return Span(min(figures), median(figures), max(figures)) if figures else None


def _bad(error: DataError) -> list[BadFile]:
    if isinstance(error, BadFilesError):
        return [BadFile(path, reason) for path, reason in error.files.items()]
    return [BadFile(str(error.path or ""), error.reason)]


def _window(found: DataSurvey, run: Run | None, given: str | None) -> Given:
    """Return the window to type, as given or as the files need it; a run has its own."""
    needed = unknown_range(found.errors)
    if run is None and given is None and needed is not None:
        return {"window": proposal(*needed)}
    return {} if given is None else {"window": given}


def _next(data: str, spec: str, run: Run | None, reading: Given, *, usable: bool) -> str:
    """Return the command to type next."""
    typed: dict[str, Any] = {name: str(value) for name, value in reading.items()}
    typed.pop("skip_bad", None)
    words = [shlex.quote(word) for word in option_words(typed)]
    bad = reading.get("skip_bad") or (not usable and "window" not in reading)
    skip = ["--skip-bad"] if bad else []
    if not usable:
        own = [] if run is None else ["--run", shlex.quote(str(run.root))]
        return " ".join(["fedcli check --data", shlex.quote(data), *words, *own, *skip])
    if run is None:
        return " ".join(["fedcli partition --dataset", shlex.quote(spec), *words, *skip])
    return run.command(
        " ".join(["train-client --id NAME --data", shlex.quote(data), *words, *skip])
    )
