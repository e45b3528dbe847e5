"""Training checkpoints: written every few epochs, and resumed by the same command."""

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
    """The state of an interrupted training for ``update``, in the file ``path``."""

    path: Path
    update: Metadata

    def read(self, progress: Progress) -> Resume | None:
        """Return the state to resume from, and report it.

        Return None if there is no state, if it was made from other inputs, or if it is broken.
        """
        client = f"client {self.update.client}"
        try:
            with Checkpoint(self.path, Kind.TRAINING) as found:
                metadata, tensors = found.metadata, to_tensors(found.tensors())
        except NotReadyError:
            return None
        except BadInputError as error:
            _say_restart(progress, client, f"is broken: {error.message}")
            return None
        kept = metadata.interrupted
        if kept is None or replace(kept, state={}) != self._interrupted({}):
            _say_restart(progress, client, "was made from other inputs")
            return None
        try:
            epochs = sum(map(len, decode(TrainerState, kept.state).epochs))
        except ValueError as error:
            _say_restart(progress, client, f"is broken: {error}")
            return None
        progress.say(f"{client}: resuming after {epochs} epochs")
        return tensors, kept.state, self.path

    def write(self, trainer: Trainer) -> None:
        """Save the state of a trainer. Raises ``StorageError``."""
        tensors, state = trainer.state()
        arrays = {name: to_array(tensor) for name, tensor in tensors.items()}
        kept = Metadata(Kind.TRAINING, self.update.run, interrupted=self._interrupted(state))
        save(self.path, arrays, kept)

    def remove(self) -> None:
        """Remove the file, and its directory if that is empty."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()

    def _interrupted(self, state: Mapping[str, Any]) -> InterruptedRecord:
        # Other versions may draw or round differently, which would change the update's bytes.
        versions = {"fedcli": __version__, "torch": torch.__version__}
        return InterruptedRecord(parse_json(self.update.encode()), versions, state)


def seconds_before(resume: Resume | None) -> float:
    """Return how many seconds the epochs before the interruption took."""
    if resume is None:
        return 0.0
    return float(sum(epoch["seconds"] for epochs in resume[1]["epochs"] for epoch in epochs))


def _say_restart(progress: Progress, client: str, why: str) -> None:
    progress.say(f"{client}: starting over; the training checkpoint {why}")
