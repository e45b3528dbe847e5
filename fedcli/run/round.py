"""The paths of one round; ``directory`` has those of the run."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from fedcli.errors import BadInputError
from fedcli.formats.client_ids import client_order, is_client_id

_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Round:
    """The paths of one round."""

    root: Path
    number: int

    @cached_property
    def path(self) -> Path:
        """The round's directory."""
        return self.root / "rounds" / f"{self.number:04d}"

    def without_links(self) -> Self:
        """Return self; raise ``BadInputError`` if a folder for writing is a link."""
        inside = (self.updates, self.client_state("0").parent, self.training_checkpoint("0").parent)
        for folder in (self.path, *inside):
            if folder.is_symlink():
                raise BadInputError(
                    "is a symbolic link, which is not followed",
                    hint="put the folder itself there; the run, or its rounds/, may be a link",
                    path=folder,
                )
        return self

    @property
    def global_model(self) -> Path:
        """The result of the round; exists once the round is complete."""
        return self.path / "global.safetensors"

    @property
    def delta(self) -> Path:
        """The encoded step to the global model, if the plan has one."""
        return self.path / "global.delta.safetensors"

    @property
    def manifest(self) -> Path:
        """The record of what went into the global model, and what did not."""
        return self.path / "aggregate.json"

    @property
    def evaluation(self) -> Path:
        """The scores of the round's models."""
        return self.path / "evaluation.json"

    @property
    def global_signature(self) -> Path:
        """The coordinator's signature of the global model, if the run has a coordinator."""
        return self.path / "global.sig"

    @cached_property
    def updates(self) -> Path:
        """The directory of the clients' updates."""
        return self.path / "updates"

    @property
    def server_state(self) -> Path:
        """The state of the server optimizer between rounds."""
        return self.path / "server_state.safetensors"

    def update(self, client: str) -> Path:
        """The update of one client."""
        return self.updates / f"{client}{_SUFFIX}"

    def signature(self, client: str) -> Path:
        """The signature of one client's update, if the run has members."""
        return self.updates / f"{client}.sig"

    def shares(self, client: str) -> Path:
        """The sealed shares that travel with one client's masked update."""
        return self.updates / f"{client}.shares"

    @property
    def survivors(self) -> Path:
        """The list of the masked updates that are in the sum, signed by the coordinator."""
        return self.path / "survivors.json"

    def answer(self, client: str) -> Path:
        """One member's answer to the list of survivors."""
        return self.path / "unmask" / f"{client}.json"

    @property
    def masked_sum(self) -> Path:
        """The opened sum of the masked updates, as a partial mean."""
        return self.path / "sum.safetensors"

    def partial(self, name: str) -> Path:
        """A partial mean that ``run --fan-out`` makes."""
        return self.path / "partials" / f"{name}{_SUFFIX}"

    def telemetry(self, client: str) -> Path:
        """How the training of one client went: times, device, losses."""
        return self.updates / f"{client}.json"

    def heartbeat(self, client: str) -> Path:
        """The progress of one client's running training."""
        return self.path / "training" / f"{client}.json"

    def training_checkpoint(self, client: str) -> Path:
        """The training checkpoint of one client, until its training ends."""
        return self.path / "training" / f"{client}.safetensors"

    def client_state(self, client: str) -> Path:
        """The state of one client."""
        return self.path / "client_state" / f"{client}.safetensors"

    def delivered(self) -> list[str]:
        """Return the clients whose update exists, in client order."""
        files = (name for name in names_in(self.updates) if name.endswith(_SUFFIX))
        return client_order(filter(is_client_id, (name.removesuffix(_SUFFIX) for name in files)))


def names_in(directory: Path) -> set[str]:
    """Return the names in a directory, without links that lead nowhere; none if it is missing."""
    try:
        with os.scandir(directory) as entries:
            return {one.name for one in entries if not one.is_symlink() or Path(one).exists()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
