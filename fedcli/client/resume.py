"""A training that was interrupted: kept every few epochs, and taken up by the same command."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedcli import __version__
from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.records import decode
from fedcli.formats.training_record import InterruptedRecord
from fedcli.models.weights import to_array, to_tensors
from fedcli.progress import Progress
from fedcli.storage.strict_json import parse_json
from fedcli.training.loop import Trainer, TrainerState

Resume = tuple[Mapping[str, Tensor], Mapping[str, Any], Path]


@dataclass(frozen=True)
class TrainingCheckpoint:
    """Where the training for ``update`` was left off, in the file ``path``."""

    path: Path
    update: Metadata

    def read(self, progress: Progress) -> Resume | None:
        """Return the state to go on from, and say so.

        It is None where there is none, or it was made from other inputs, or cannot be read.
        """
        client = f"client {self.update.client}"
        try:
            with Checkpoint(self.path, Kind.TRAINING) as found:
                metadata, tensors = found.metadata, to_tensors(found.tensors())
        except NotReadyError:
            return None
        except BadInputError as error:
            _anew(progress, client, f"is broken: {error.message}")
            return None
        kept = metadata.interrupted
        if kept is None or replace(kept, state={}) != self._interrupted({}):
            _anew(progress, client, "was made from other inputs")
            return None
        try:
            epochs = sum(map(len, decode(TrainerState, kept.state).epochs))
        except ValueError as error:
            _anew(progress, client, f"is broken: {error}")
            return None
        progress.say(f"{client}: goes on after {epochs} epochs that were trained before")
        return tensors, kept.state, self.path

    def write(self, trainer: Trainer) -> None:
        """Keep where a trainer stands. Raises ``StorageError``."""
        tensors, state = trainer.state()
        arrays = {name: to_array(tensor) for name, tensor in tensors.items()}
        kept = Metadata(Kind.TRAINING, self.update.run, interrupted=self._interrupted(state))
        save(self.path, arrays, kept)

    def remove(self) -> None:
        """Remove the file, and its directory with the last one in it."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()

    def _interrupted(self, state: Mapping[str, Any]) -> InterruptedRecord:
        # another version may draw or round otherwise, and the update would have other bytes
        versions = {"fedcli": __version__, "torch": torch.__version__}
        return InterruptedRecord(parse_json(self.update.encode()), versions, state)


def seconds_before(resume: Resume | None) -> float:
    """Return how long the epochs took that are not trained again."""
    if resume is None:
        return 0.0
    return float(sum(epoch["seconds"] for epochs in resume[1]["epochs"] for epoch in epochs))


def _anew(progress: Progress, client: str, why: str) -> None:
    progress.say(f"{client}: beginning anew; what was kept {why}")
