"""A training that was interrupted: kept every few epochs, and taken up by the same command."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.records import decode
from fedcli.models.weights import to_array, to_tensors
from fedcli.progress import Progress
from fedcli.storage.atomic import canonical_json
from fedcli.training import Stand, Trainer
from fedcli.version import __version__

Resume = tuple[Mapping[str, Tensor], Mapping[str, Any], Path]


@dataclass(frozen=True)
class LeftOff:
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
        facts = dict(metadata.training or {})
        state = facts.pop("state", None)
        if canonical_json(facts) != canonical_json(self._inputs()):
            _anew(progress, client, "was made from other inputs")
            return None
        try:
            epochs = sum(map(len, decode(Stand, state).epochs))
        except ValueError as error:
            _anew(progress, client, f"is broken: {error}")
            return None
        progress.say(f"{client}: goes on after {epochs} epochs that were trained before")
        return tensors, state, self.path

    def write(self, trainer: Trainer) -> None:
        """Keep where a trainer stands. Raises ``StorageError``."""
        tensors, state = trainer.state()
        arrays = {name: to_array(tensor) for name, tensor in tensors.items()}
        facts = {**self._inputs(), "state": state}
        save(self.path, arrays, Metadata(Kind.TRAINING, self.update.run, training=facts))

    def remove(self) -> None:
        """Remove the file, and its directory with the last one in it."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()

    def _inputs(self) -> dict[str, Any]:
        # another version may draw or round otherwise, and the update would have other bytes
        versions = {"fedcli": __version__, "torch": torch.__version__}
        return {"update": asdict(self.update), "versions": versions}


def seconds_before(resume: Resume | None) -> float:
    """Return how long the epochs took that are not trained again."""
    if resume is None:
        return 0.0
    return float(sum(epoch["seconds"] for epochs in resume[1]["epochs"] for epoch in epochs))


def _anew(progress: Progress, client: str, why: str) -> None:
    progress.say(f"{client}: beginning anew; what was kept {why}")
