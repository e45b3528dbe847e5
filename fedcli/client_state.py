"""What a client keeps from round to round: an algorithm's state, and layers that stay with it.

The state of a round is what the client had at its end. It lives in the round's directory, or in a
folder of the client's own, and a round starts from the newest of the rounds before that has what
it looks for. A state goes with an update, and says of its training what that says.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.advice import train_command
from fedcli.algorithms import ALGORITHMS
from fedcli.checkpoint import Checkpoint, digest, save
from fedcli.dtypes import Array
from fedcli.errors import BadInputError, CheckpointError, NotReadyError
from fedcli.files import storage_errors
from fedcli.manifest import Manifest, read_manifest
from fedcli.metadata import Kind, Metadata
from fedcli.run import Run
from fedcli.run_info import client_order, is_client_id

LOCAL = "local"  # layers that stay with the client
NOTHING: Mapping[str, Array] = {}


@dataclass(frozen=True)
class ClientState:
    """A client's state: tensors named ``<slot>/<name>``, and the SHA-256 of its file.

    ``training`` is what the update that it goes with says of its training.
    """

    round: int
    tensors: Mapping[str, Array]
    sha256: str
    training: Mapping[str, Any]

    def slot(self, name: str) -> dict[str, Array]:
        """Return the tensors of one slot, by their names in the model."""
        start = f"{name}/"
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


@dataclass(frozen=True)
class StateStore:
    """Where the states of a run's clients are; ``directory`` is None for the run itself."""

    run: Run
    directory: Path | None = None

    def path(self, round_number: int, client: str) -> Path:
        """Return the file of the state that a client has at the end of a round."""
        if self.directory is None:
            return self.run.round(round_number).client_state(client)
        return self._own(round_number) / f"{client}.safetensors"

    def left_off(self, round_number: int, client: str) -> Path:
        """Return the file of a training that is not at its end, which holds such state too."""
        if self.directory is None:
            return self.run.round(round_number).left_off(client)
        return self._own(round_number) / "training" / f"{client}.safetensors"

    def _own(self, round_number: int) -> Path:
        """Return the folder of a round in the client's own, which may be used for several runs."""
        assert self.directory is not None
        return self.directory / self.run.id[:16] / f"{round_number:04d}"

    def before(
        self, round_number: int, client: str, slot: str, *, server_optimizer: str | None = None
    ) -> ClientState | None:
        """Return the state of a client with the slot that a round starts from; None without any.

        It is the newest of the rounds before that has it. Where ``server_optimizer`` keeps the
        other half of an algorithm, the halves have to go together: a state counts only if its
        update went into the global model, and if that optimizer made all models since. Manifests
        that are not here say nothing.

        Raises ``NotReadyError`` for a state that is gone though its update is here, and
        ``BadInputError`` and ``CheckpointError`` for one that is broken, or of another run,
        client, model or training.
        """
        for number in range(round_number - 1, 0, -1):
            manifest = None
            if server_optimizer is not None:
                manifest = read_manifest(self.run.round(number).manifest)
            if manifest is not None and manifest.server_optimizer != server_optimizer:
                return None
            if (manifest is None or _has(manifest, client)) and self._keeps(number, client, slot):
                return self.read(number, client)
        return None

    def _keeps(self, number: int, client: str, slot: str) -> bool:
        """Say whether a client kept a slot in a round: its update does, or else the state."""
        path, update = self.path(number, client), self._update(number, client)
        if update is None:
            return path.exists() and slot in self._slots(path)
        if slot not in _slots_of(update.training or {}):
            return False
        if not path.exists():
            raise NotReadyError(
                f"{path}: is missing, and client {client} kept it when it trained round {number}",
                hint="name its folder with --state DIR, or make it again: "
                + train_command(self.run, [client], number),
            )
        return True

    def _slots(self, path: Path) -> set[str]:
        with Checkpoint(path, Kind.CLIENT_STATE) as state:
            return {name.partition("/")[0] for name in state.layout}

    def _update(self, number: int, client: str) -> Metadata | None:
        path = self.run.round(number).update(client)
        if not path.exists():
            return None
        with Checkpoint(path, Kind.UPDATE) as update:
            return update.metadata

    def newest(self, up_to: int, client: str, slots: Set[str]) -> int | None:
        """Return the last round, up to one, in which a client trained, if it kept one of the slots.

        Raises ``NotReadyError`` for a state that is gone though its update is here.
        """
        for number in range(up_to, 0, -1):
            if any(self._keeps(number, client, slot) for slot in slots):
                return number
            if self._update(number, client) is not None:
                return None
        return None

    def holders(self, up_to: int) -> list[str]:
        """Return the clients that have a state of some round up to one, in client order."""
        folders = {self.path(number, "0").parent for number in range(1, up_to + 1)}
        names = {path.stem for folder in folders for path in folder.glob("*.safetensors")}
        return client_order(name for name in names if is_client_id(name))

    def goes_with_update(self, number: int, client: str) -> bool:
        """Say whether the state of a round is here, and was made with the update of that round."""
        update = self._update(number, client)
        try:
            with Checkpoint(self.path(number, client), Kind.CLIENT_STATE) as state:
                return update is not None and _made(state.metadata) == _made(update)
        except (NotReadyError, CheckpointError):
            return False

    def read(self, number: int, client: str) -> ClientState:
        """Return the state of a round. Raises what ``before`` does."""
        with Checkpoint(self.path(number, client), Kind.CLIENT_STATE) as state:
            self._check(state, number, client)
            training = state.metadata.training or {}
            return ClientState(number, state.tensors(), state.digest(), training)

    def _check(self, state: Checkpoint, number: int, client: str) -> None:
        found, update = state.metadata, self._update(number, client)
        base = self.run.round(number - 1).global_model
        for what, expected, value in (
            ("run", self.run.id, found.run),
            ("round", number, found.round),
            ("client", client, found.client),
            # a client need not keep the models of old rounds
            ("base model", digest(base) if base.exists() else found.base, found.base),
        ):
            if value != expected:
                raise BadInputError(
                    f"{state.path}: is the state of another {what}: expected {expected},"
                    f" found {value}",
                    hint="another --state folder, or train the client's last round again",
                )
        if update is not None and _made(found) != _made(update):
            raise BadInputError(
                f"{state.path}: does not go with the update of client {client} of round {number}:"
                " they were made from different inputs",
                hint="train that round of the client again: "
                + train_command(self.run, [client], number),
            )

    def write(self, update: Metadata, tensors: Mapping[str, Array]) -> None:
        """Write the state that goes with an update. Raises ``StorageError``."""
        assert update.round is not None
        assert update.client is not None
        described = Metadata(
            Kind.CLIENT_STATE,
            update.run,
            round=update.round,
            client=update.client,
            base=update.base,
            training=update.training,
            seed=update.seed,
        )
        path = self.path(update.round, update.client)
        save(path, dict(tensors), described)

    def remove(self, number: int, client: str) -> None:
        """Remove the state of a round, where there is one. Raises ``StorageError``."""
        path = self.path(number, client)
        with storage_errors("remove", path):
            path.unlink(missing_ok=True)


def _made(metadata: Metadata) -> tuple[Any, ...]:
    """Return what a state and its update have in common."""
    return metadata.base, metadata.seed, metadata.training


def _slots_of(training: Mapping[str, Any]) -> set[str]:
    """Return the slots that a client keeps when it trains like this."""
    row = ALGORITHMS.get(str(training.get("algorithm")))
    kept = {row.keeps} if row is not None and row.keeps is not None else set()
    return kept | {LOCAL} if training.get("local_layers") else kept


def _has(manifest: Manifest, client: str) -> bool:
    """Whether a model was made from a client's update; of a partial mean, that cannot be told."""
    return bool(manifest.partials) or any(one.client == client for one in manifest.accepted)
