"""Partial means, which may lie anywhere in a run, and foreign files."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fedcli.aggregation.updates import check_tensors
from fedcli.errors import FedcliError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Claim, Survey

_MOST_FOREIGN = 100  # foreign files listed one by one
_PASSING = re.compile(
    r"(running|copy|receipts)\.json|keys/(coordinator|clients/[^/]+)\.key(\.(answered|closed)/[^/]+)?|rounds/\d{4,}/training/[^/]+\.(json|safetensors)|(.*/)?\.[^/]+\.tmp(/.*)?"
)


def files_in(root: Path) -> Iterator[Path]:
    """Yield all files below a directory, without following links to directories."""
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders.sort()
        for name in sorted([*names, *links]):
            yield Path(folder) / name


def check_partials(survey: Survey, files: list[Path]) -> None:
    """Check the partial means among the remaining files, and report those not in the run."""
    here: set[tuple[int, str]] = set()
    for path in files:
        if path.suffix == ".safetensors" and (number := _round_of_partial(survey, path)):
            here.add((number, path.stem))
            _check_partial(survey, path)
    for number, manifest in survey.manifests.items():
        for entry in manifest.partials:
            if (number, entry.name) not in here:
                path = survey.run.root / f"{entry.name}.safetensors"
                survey.count(Section.PARTIALS, path)
                manifest_file = survey.name(survey.run.round(number).manifest)
                message = f"is not in the run; {manifest_file} names it"
                survey.add(Problem.MISSING, path, message, entry.sha256)


def _round_of_partial(survey: Survey, path: Path) -> int | None:
    """Return the round of a partial mean of this run; None for any other file."""
    if path.is_symlink() or path in survey.counted:
        return None
    try:
        with Checkpoint(path, Kind.PARTIAL) as found:
            return found.metadata.round if found.metadata.run == survey.run.id else None
    except FedcliError:
        return None


def _check_partial(survey: Survey, path: Path) -> None:
    def check(found: Checkpoint) -> None:
        base = survey.holding(found.metadata)
        if base is not None:
            check_tensors(base, base.partial_layout(), found)

    found = survey.checkpoint(
        Section.PARTIALS, path, Kind.PARTIAL, check, (Problem.MISSING, "is missing")
    )
    if found is None or found.round is None:
        return
    run, manifest = survey.run, survey.manifests.get(found.round)
    for entry in () if manifest is None else manifest.partials:
        if entry.name == path.stem:
            source = run.round(found.round).manifest
            survey.claim(path, Claim(source, entry.sha256, entry.bytes, entry.num_examples))
    if found.base is not None:
        before = run.round(found.round - 1).global_model
        survey.claim(before, Claim(path, found.base, firm=False))
    for client, sha256 in (found.updates or {}).items():
        claim = Claim(path, sha256, firm=False)
        survey.claim(run.round(found.round).update(client), claim)


def report_foreign(survey: Survey, files: list[Path]) -> None:
    """Report foreign files; a folder that holds nothing else counts as one."""
    known: set[Path] = set()
    for folder in {path.parent for path in survey.counted}:
        known.update((folder, *folder.parents))
    named: dict[Path, None] = {}
    for path in files:
        if path in survey.counted or _PASSING.fullmatch(survey.name(path)):
            continue
        strange = [folder for folder in path.parents if folder not in known]
        named[strange[-1] if strange else path] = None
    for path in list(named)[:_MOST_FOREIGN]:
        what = "a folder that is not part of a run" if path.is_dir() else "is not part of a run"
        survey.add(Problem.FOREIGN, path, what)
    if len(named) > _MOST_FOREIGN:
        more = f"and {len(named) - _MOST_FOREIGN} more that are not part of a run"
        survey.add(Problem.FOREIGN, survey.run.root, more)
