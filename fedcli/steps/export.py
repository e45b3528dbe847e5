"""Write a global model to a file for other programs, with a card that says where it comes from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Literal, Self

from fedcli import __version__
from fedcli.datasets.windows import spelled
from fedcli.errors import BadInputError, ConflictError, NotReadyError, UsageError
from fedcli.exporting.card import ExportedFile, Facts, card
from fedcli.exporting.history import chain, history
from fedcli.exporting.weights import as_safetensors, merged_adapters
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.dtypes import Array
from fedcli.formats.evaluation import Evaluation, Score
from fedcli.formats.metadata import Kind
from fedcli.formats.partition import PartitionFile
from fedcli.options import one_of
from fedcli.reporting.metric import metric_named
from fedcli.reporting.scored_rounds import Best, best_round
from fedcli.run import Run
from fedcli.run.next_command import evaluate_command
from fedcli.run.round import Round
from fedcli.security.global_model import check_global_model
from fedcli.storage.atomic import write_bytes
from fedcli.storage.commit import commit

SUFFIXES = {"safetensors": (".safetensors",), "torch": (".pt", ".pth"), "onnx": (".onnx",)}
_PROGRAMS = {"safetensors": (), "torch": ("torch",), "onnx": ("torch", "onnx", "onnxscript")}


@dataclass(frozen=True)
class ExportResult:
    """What was exported; ``sha256`` is of the file at ``path``, ``model_sha256`` of the run's file.

    ``merged`` says whether LoRA adapters were merged into the weights; ``best`` says what the round
    was chosen by, if it was the best one that was asked for.
    """

    round: int
    format: str
    path: Path
    card: Path
    sha256: str
    bytes: int
    model_sha256: str
    merged: bool
    already_done: bool
    best: "BestBy | None" = None


@dataclass(frozen=True)
class BestBy:
    """The score by which a round is the best of ``rounds``; ``unscored`` ones could not compete."""

    metric: str
    value: float
    subject: str
    rounds: int
    unscored: tuple[int, ...]


def export(
    run: Run,
    *,
    round_number: int | Literal["best"] | None = None,
    metric: str | None = None,
    format: str = "safetensors",
    output: Path | None = None,
    own_model: str | None = None,
    force: bool = False,
) -> ExportResult:
    """Write the global model of a round, by default the latest, and its card beside it.

    The ``best`` round is that with the best score by ``metric``, by default the accuracy; of
    several, the earliest. ``format`` is ``safetensors`` or ``torch`` (a state_dict), or ``onnx`` (a
    graph that normalises its input itself). LoRA adapters are merged into the weights. The card is
    named after ``output``, with ``.md`` appended. The same model gives the same bytes with the same
    versions of the programs. ``onnx`` needs ``own_model`` as training does.

    Raises ``UsageError``, ``NotReadyError``, ``BadInputError`` for a model that is broken or not
    signed as it should be, ``MissingDependencyError``, ``ConflictError`` if one of the files exists
    with other content, and ``StorageError``.
    """
    one_of("--format", format, SUFFIXES)
    round_, best = _chosen(run, round_number, metric)
    path = _output(run, round_, format, output)
    model = _Model.read(run, round_)
    if best is not None:
        _check_score(run, best, model.sha256)
    data = _encoded(run, format, model, own_model)
    exported = ExportedFile(
        name=path.name,
        format=format,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        round=round_.number,
        model_sha256=model.sha256,
        merged=model.merged,
        tensors=len(model.weights),
        numbers=sum(prod(a.shape) for n, a in model.weights.items() if n not in model.tied),
        versions=_versions(format),
    )
    described = card(exported, _facts(run, round_, model.sha256)).encode()
    made = _write(path, data, described, force=force)
    return _result(exported, path, best, already_done=not made)


@dataclass(frozen=True)
class _Model:
    """A global model of the run; ``weights`` are without adapters, which are ``merged``.

    ``tied`` maps second names of a tensor to its first one.
    """

    round: Round
    sha256: str
    weights: dict[str, Array]
    tied: Mapping[str, str]
    merged: bool

    @classmethod
    def read(cls, run: Run, round_: Round) -> Self:
        """Read it, with the errors of ``export``."""
        with Checkpoint(round_.global_model, Kind.GLOBAL) as model:
            tensors, sha256 = model.tensors_and_digest()
        check_global_model(run, round_, model.metadata, sha256)
        weights = merged_adapters(tensors, run.info.model.lora_scale)
        tied = model.metadata.tied or {}
        return cls(round_, sha256, weights, tied, weights.keys() != tensors.keys())


def _chosen(
    run: Run, number: int | Literal["best"] | None, metric: str | None
) -> tuple[Round, Best | None]:
    if number == "best":
        best = best_round(run, metric_named(metric or "accuracy"))
        return run.round(best.round), best
    if metric is not None:
        raise UsageError("--metric: says which round is the best, and goes with --round best")
    return _round(run, number), None


def _check_score(run: Run, best: Best, sha256: str) -> None:
    if best.score.sha256 not in (None, sha256):
        raise BadInputError(
            "has the scores of another model than the round's",
            hint=evaluate_command(run, f"evaluate --round {best.round}"),
            path=run.round(best.round).evaluation,
        )


def _round(run: Run, number: int | None) -> Round:
    latest = run.latest_round()
    if number is None:
        return latest
    if number < 0:
        raise UsageError(f"--round: expected 0 or more, found {number}")
    if not run.round(number).global_model.exists():
        raise NotReadyError(
            f"--round {number}: round {number} has no global model; the latest is {latest.number}"
        )
    return run.round(number)


def _output(run: Run, round_: Round, format: str, output: Path | None) -> Path:
    suffixes = SUFFIXES[format]
    if output is None:
        return Path(f"{run.root.resolve().name}-round-{round_.number}{suffixes[0]}")
    if output.suffix not in suffixes:
        raise UsageError(
            f"--output {output}: expected a name that ends in {' or '.join(suffixes)}, for"
            f" --format {format}"
        )
    if output.resolve().parent.is_relative_to(run.root.resolve()):
        raise UsageError(f"--output {output}: is in the run directory, which has its own files")
    return output


def _card_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.md")


def _encoded(run: Run, format: str, model: _Model, own_model: str | None) -> bytes:
    notes = {
        "fedcli_run": run.id,
        "fedcli_round": str(model.round.number),
        "fedcli_sha256": model.sha256,
    }
    if run.info.dataset.window is not None:
        notes["fedcli_window"] = spelled(run.info.dataset.window)
    if format == "safetensors":
        return as_safetensors(model.weights, notes)
    from fedcli.exporting.with_torch import as_onnx, saved

    if format == "torch":
        return saved(model.weights)
    return as_onnx(run.info, model.weights, notes, model.round.global_model, own_model)


def _versions(format: str) -> dict[str, str]:
    versions = {"fedcli": __version__}
    for name in _PROGRAMS[format]:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # importable, but not installed as a package
            continue
    return versions


def _facts(run: Run, round_: Round, sha256: str) -> Facts:
    evaluation = Evaluation.read(round_.evaluation)
    scores: tuple[Score, ...] = () if evaluation is None else evaluation.results
    return Facts(
        run=run,
        rounds=history(run, round_.number),
        chain=chain(run, round_.number, sha256),
        scores=[score for score in scores if (score.model, score.sha256) == ("global", sha256)],
        partition=PartitionFile.read(run.partition_file),
    )


def _write(path: Path, data: bytes, described: bytes, *, force: bool) -> bool:
    """Write the model and its card unless they exist; return whether anything was written."""
    card = _card_of(path)
    files = {card: described, path: data}
    other = [one for one, content in files.items() if not _is(one, content)]
    for one in other:
        if one.exists() and not force:
            raise ConflictError(
                "exists, and is not what would be written",
                hint="--force replaces it; --output names another file",
                path=one,
            )
    if other:
        commit(
            path,
            [card],
            write=lambda: write_bytes(card, described),
            publish=lambda: write_bytes(path, data),
            is_done=lambda: _is(path, data),
            replaces=path.exists(),
        )
    return bool(other)


def _is(path: Path, data: bytes) -> bool:
    return path.exists() and digest(path) == hashlib.sha256(data).hexdigest()


def _result(
    exported: ExportedFile, path: Path, best: Best | None, *, already_done: bool
) -> ExportResult:
    return ExportResult(
        round=exported.round,
        format=exported.format,
        path=path,
        card=_card_of(path),
        sha256=exported.sha256,
        bytes=exported.bytes,
        model_sha256=exported.model_sha256,
        merged=exported.merged,
        already_done=already_done,
        best=None if best is None else _best_by(best),
    )


def _best_by(best: Best) -> BestBy:
    return BestBy(best.metric.name, best.value, best.subject.name, best.rounds, best.unscored)
