"""The paths of one round; see ``fedcli.run`` for those of the run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedcli.errors import BadInputError
from fedcli.formats.client_ids import client_order, is_client_id


@dataclass(frozen=True)
class Round:
    """The paths of one round."""

    root: Path
    number: int

    @property
    def path(self) -> Path:
        """The round's directory."""
        return self.root / "rounds" / f"{self.number:04d}"

    def without_links(self) -> Self:
        """Return it; raise ``BadInputError`` where a folder that is written to is a link."""
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
        """The model that the round ends with: there once the round is complete."""
        return self.path / "global.safetensors"

    @property
    def manifest(self) -> Path:
        """What went into the global model, and what did not."""
        return self.path / "aggregate.json"

    @property
    def evaluation(self) -> Path:
        """The scores of the round's models."""
        return self.path / "evaluation.json"

    @property
    def global_signature(self) -> Path:
        """The coordinator's signature of the global model, where the run has a coordinator."""
        return self.path / "global.sig"

    @property
    def updates(self) -> Path:
        """The directory of the clients' updates."""
        return self.path / "updates"

    @property
    def server_state(self) -> Path:
        """What a server optimizer keeps from round to round."""
        return self.path / "server_state.safetensors"

    def update(self, client: str) -> Path:
        """The update of one client."""
        return self.updates / f"{client}.safetensors"

    def signature(self, client: str) -> Path:
        """The signature of one client's update, where the run has members."""
        return self.updates / f"{client}.sig"

    def telemetry(self, client: str) -> Path:
        """How the training of one client went: times, device, losses."""
        return self.updates / f"{client}.json"

    def heartbeat(self, client: str) -> Path:
        """Where the training of one client stands, for as long as it lasts."""
        return self.path / "training" / f"{client}.json"

    def training_checkpoint(self, client: str) -> Path:
        """Where the training of one client was left off, from one checkpoint to its end."""
        return self.path / "training" / f"{client}.safetensors"

    def client_state(self, client: str) -> Path:
        """What an algorithm keeps for one client."""
        return self.path / "client_state" / f"{client}.safetensors"

    def delivered(self) -> list[str]:
        """The clients whose update is there, in client order."""
        names = (path.name.removesuffix(".safetensors") for path in _listing(self.updates))
        return client_order(
            name for name in names if is_client_id(name) and self.update(name).exists()
        )


def _listing(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.name.endswith(".safetensors")]
    except (FileNotFoundError, NotADirectoryError):
        return []
