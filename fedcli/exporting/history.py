"""How a global model was made, as far as the files of its run tell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.client_ids import in_client_order
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind
from fedcli.formats.records import encode
from fedcli.formats.training_record import TrainingRecord
from fedcli.plan.train import TRAIN_OPTIONS
from fedcli.run import Run
from fedcli.run.used_updates import disagreement, header_of
from fedcli.storage.atomic import canonical_json

_RECORDED = TRAIN_OPTIONS.keys() | {"threads", "device", "compile"}


@dataclass(frozen=True)
class Link:
    """A global model in the chain back to round 0; None if no file names its SHA-256."""

    round: int
    sha256: str | None


@dataclass(frozen=True)
class RoundHistory:
    """How one round was made. ``trainings`` are the hyper-parameters that its clients recorded.

    All clients that trained alike share one entry; there is none if the updates are gone.
    """

    round: int
    manifest: Manifest | None
    trainings: tuple[Mapping[str, Any], ...]

    @property
    def examples(self) -> dict[str, int | None]:
        """The number of examples of each client whose update was not within a partial mean.

        It is None if the client withholds it.
        """
        accepted = () if self.manifest is None else self.manifest.accepted
        return {entry.client: entry.num_examples for entry in accepted}

    @property
    def clients(self) -> int | None:
        """How many clients took part; None without a manifest."""
        if self.manifest is None:
            return None
        return len(self.manifest.accepted) + sum(part.clients for part in self.manifest.partials)

    def options_key(self) -> bytes:
        """Return a key that rounds with the same options share."""
        rule: dict[str, Any] = {}
        if (manifest := self.manifest) is not None:
            rule = {key: getattr(manifest, key) for key in _RULE}
        return canonical_json([rule, list(self.trainings)])


_RULE = ("strategy", "reduce", "server_optimizer", "weighting", "options", "limits")


def chain(run: Run, number: int, sha256: str) -> list[Link]:
    """Return the chain from the global model of a round, with this SHA-256, back to round 0.

    Each model names the SHA-256 of its base model, which stays known when that file is deleted.
    """
    links, known = [Link(number, sha256)], {round_.number for round_ in run.rounds()}
    for before in range(number - 1, -1, -1):
        if before + 1 not in known:  # a directory may be named by any number
            break
        links.append(Link(before, _base_of(run, before + 1)))
    return links


def _base_of(run: Run, number: int) -> str | None:
    try:
        with Checkpoint(run.round(number).global_model, Kind.GLOBAL) as model:
            return model.metadata.base
    except (BadInputError, NotReadyError):
        manifest = Manifest.try_read(run.round(number).manifest)
        if manifest is not None:
            return manifest.base
        before = run.round(number - 1).global_model
        return digest(before) if before.exists() else None


def history(run: Run, last: int) -> list[RoundHistory]:
    """Return how rounds 1 to ``last`` were made."""
    return [_made(run, round_.number) for round_ in run.rounds() if 1 <= round_.number <= last]


def stretches(rounds: list[RoundHistory]) -> Iterator[list[RoundHistory]]:
    """Yield stretches of consecutive rounds with the same options."""
    for _, group in groupby(rounds, RoundHistory.options_key):
        yield list(group)


def _made(run: Run, number: int) -> RoundHistory:
    manifest = Manifest.try_read(run.round(number).manifest)
    if manifest is not None and disagreement(manifest, header_of(run.round(number))):
        manifest = None  # it describes another model
    found: dict[bytes, Mapping[str, Any]] = {}
    for entry in () if manifest is None else manifest.accepted:
        try:
            with Checkpoint(run.round(entry.round).update(entry.client), Kind.UPDATE) as update:
                training = _hyperparameters(update.metadata.training)
        except (BadInputError, NotReadyError):
            continue
        found[canonical_json(training)] = training
    return RoundHistory(number, manifest, tuple(found[key] for key in sorted(found)))


def _hyperparameters(training: TrainingRecord) -> dict[str, Any]:
    """Return the chosen options; the number of steps is not chosen if epochs are."""
    chosen = {key: value for key, value in encode(training).items() if key in _RECORDED}
    chosen.pop("initial_loss", None)
    if "epochs" in chosen:
        chosen.pop("steps", None)
    return chosen


def clients_of(rounds: list[RoundHistory]) -> dict[str, tuple[int, int | None]]:
    """Return, for each client, the rounds with an update of its own, and its latest examples.

    The number of examples is None if the client withholds it.
    """
    found: dict[str, tuple[int, int | None]] = {}
    for one in rounds:
        for client, examples in one.examples.items():
            found[client] = found.get(client, (0, 0))[0] + 1, examples
    return in_client_order(found)
