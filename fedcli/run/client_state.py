"""Client state between rounds: state of an algorithm, local layers, residuals of encodings.

The state of a round is the one at its end. It is stored in the round's directory, or in a folder of
the client's own. A round starts from the newest earlier state that has the slot it needs. A state
belongs to an update, and records the same training.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from fedcli.algorithms import ALGORITHMS
from fedcli.errors import BadInputError, CheckpointError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint, digest, save
from fedcli.formats.dtypes import Array, is_float
from fedcli.formats.made_from import MadeFrom
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.training_record import TrainingRecord
from fedcli.run.directory import Run
from fedcli.run.info import client_order, is_client_id
from fedcli.run.late_updates import was_left_out
from fedcli.run.next_command import train_command
from fedcli.run.round import Round
from fedcli.run.used_updates import header_of, origin_of
from fedcli.storage.atomic import storage_errors
from fedcli.text import brief

LOCAL = "local"  # layers that stay with the client
RESIDUAL = "residual"  # what the encodings of its updates have lost so far
NOTHING: Mapping[str, Array] = {}


@dataclass(frozen=True)
class ClientState:
    """A client's state: tensors named ``<slot>/<name>``, and the SHA-256 of its file.

    ``training`` is the training record of the update that it belongs to.
    """

    round: int
    tensors: Mapping[str, Array]
    sha256: str
    training: TrainingRecord

    def slot(self, name: str) -> dict[str, Array]:
        """Return the tensors of one slot, by their names in the model."""
        start = f"{name}/"
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


@dataclass(frozen=True)
class StateStore:
    """The location of client states; ``directory`` is None for the run itself."""

    run: Run
    directory: Path | None = None

    def path(self, round_number: int, client: str) -> Path:
        """Return the path of a client's state at the end of a round."""
        if self.directory is None:
            return self.run.round(round_number).client_state(client)
        return self._own(round_number) / f"{client}.safetensors"

    def training_checkpoint(self, round_number: int, client: str) -> Path:
        """Return the path of a training checkpoint, which holds such state too."""
        if self.directory is None:
            return self.run.round(round_number).training_checkpoint(client)
        return self._own(round_number) / "training" / f"{client}.safetensors"

    def _own(self, round_number: int) -> Path:
        """Return a round's folder in the client's own, which several runs may share."""
        assert self.directory is not None
        return self.directory / self.run.id[:16] / f"{round_number:04d}"

    def before(
        self, round_number: int, client: str, slot: str, *, server_optimizer: str | None = None
    ) -> ClientState | None:
        """Return the client state, with this slot, that a round starts from; None without one.

        Raises ``NotReadyError`` for a missing state whose update exists, and ``BadInputError`` and
        ``CheckpointError`` for one that is broken, or of another run, client, model or training.
        """
        number = self.round_before(round_number, client, slot, server_optimizer=server_optimizer)
        if number is None:
            return None
        self._check_here(number, client)
        return self.read(number, client)

    def round_before(
        self, round_number: int, client: str, slot: str, *, server_optimizer: str | None = None
    ) -> int | None:
        """Return the round whose client state, with this slot, a round starts from.

        It is the newest earlier round that has it. If ``server_optimizer`` keeps the other half of
        an algorithm, the halves have to match: a state counts only if its update went into the
        global model, and if that optimizer made all models since; rounds of which the files say
        nothing are assumed to match. So does a residual count only if its update was not left out:
        else what it was made from is still to be sent. The state itself may be missing: its update
        records that it existed.

        Raises ``CheckpointError`` for an update or a state that cannot be read.
        """
        for number in self._rounds(1, round_number - 1):
            if server_optimizer is not None:
                round_ = self.run.round(number)
                if _server_optimizer(round_) not in (None, server_optimizer):
                    return None
                if not _has(round_, client):
                    continue
            if slot == RESIDUAL and was_left_out(self.run, number, client, round_number):
                continue
            if self._kept(number, client, slot):
                return number
        return None

    def _kept(self, number: int, client: str, slot: str) -> bool:
        """Return whether a client kept a slot in a round, by its update, or else by its state."""
        update = self._update(number, client)
        if update is not None:
            return slot in slots_kept(update.training)
        return slot in self.slots(number, client)

    def _check_here(self, number: int, client: str) -> None:
        path = self.path(number, client)
        if not path.exists():
            raise NotReadyError(
                f"is missing, and client {client} kept it when it trained round {number}",
                hint="name its folder with --state DIR, or train again: "
                + train_command(self.run, [client], number),
                path=path,
            )

    def slots(self, number: int, client: str) -> set[str]:
        """Return the slots in the state of a round; an empty set without a state."""
        path = self.path(number, client)
        if not path.exists():
            return set()
        with Checkpoint(path, Kind.CLIENT_STATE) as state:
            return {name.partition("/")[0] for name in state.layout}

    def _update(self, number: int, client: str) -> Metadata | None:
        path = self.run.round(number).update(client)
        if not path.exists():
            return None
        with Checkpoint(path, Kind.UPDATE) as update:
            return update.metadata

    def _rounds(self, first: int, last: int) -> list[int]:
        """Return the rounds that exist in the run or have a state here, newest first.

        Counting down instead would be slow: a directory name may have any number of ten digits. The
        last one is looked at even if a slow file system does not list it yet.
        """
        numbers = {last, *(round_.number for round_ in self.run.rounds())}
        if self.directory is not None and (own := self._own(0).parent).is_dir():
            numbers |= {int(path.name) for path in own.iterdir() if path.name.isdecimal()}
        return sorted((n for n in numbers if first <= n <= last), reverse=True)

    def newest(self, up_to: int, client: str, slots: Set[str]) -> int | None:
        """Return the last round up to ``up_to`` that a client trained, if it kept one of the slots.

        Raises ``NotReadyError`` for a missing state whose update exists.
        """
        for number in self._rounds(1, up_to):
            if any(self._kept(number, client, slot) for slot in slots):
                self._check_here(number, client)
                return number
            if self._update(number, client) is not None:
                return None
        return None

    def holders(self, up_to: int) -> list[str]:
        """Return the clients with a state of any round up to ``up_to``, in client order."""
        folders = {self.path(number, "0").parent for number in self._rounds(1, up_to)}
        names = {path.stem for folder in folders for path in folder.glob("*.safetensors")}
        return client_order(name for name in names if is_client_id(name))

    def goes_with_update(self, number: int, client: str) -> bool:
        """Return whether the state of a round exists and belongs to the update of that round."""
        update = self._update(number, client)
        try:
            with Checkpoint(self.path(number, client), Kind.CLIENT_STATE) as state:
                return update is not None and belong_together(state.metadata, update)
        except (NotReadyError, CheckpointError):
            return False

    def read(self, number: int, client: str) -> ClientState:
        """Return the state of a round. Raises what ``before`` does."""
        with Checkpoint(self.path(number, client), Kind.CLIENT_STATE) as state:
            self._check(state, number, client)
            self._check_tensors(state)
            return ClientState(number, *state.tensors_and_digest(), state.metadata.training)

    def _check(self, state: Checkpoint, number: int, client: str) -> None:
        found, update = state.metadata, self._update(number, client)
        base = self.run.round(number - 1).global_model
        for what, expected, value in (
            ("run", self.run.id, found.run),
            ("round", number, found.round),
            ("client", client, found.client),
            # clients may delete the models of old rounds
            ("base model", digest(base) if base.exists() else found.base, found.base),
        ):
            if value != expected:
                raise BadInputError(
                    f"is the state of another {what}: expected {expected}, found {value}",
                    hint="another --state folder, or train the client's last round again",
                    path=state.path,
                )
        if update is not None and not belong_together(found, update):
            raise BadInputError(
                f"does not go with the update of client {client} of round {number}:"
                " they were made from different inputs",
                hint="train that round of the client again: "
                + train_command(self.run, [client], number),
                path=state.path,
            )

    def _check_tensors(self, state: Checkpoint) -> None:
        with Checkpoint(self.run.latest_round().global_model, Kind.GLOBAL) as model:
            layout = model.layout
        for name, found in state.layout.items():
            kept_for = layout.get(name.partition("/")[2])
            if (
                kept_for is None
                or found.shape != kept_for.shape
                or is_float(found.dtype) != is_float(kept_for.dtype)
            ):
                raise BadInputError(
                    f"tensor {brief(name)} goes with no tensor of the model",
                    hint="train the client's last round again",
                    path=state.path,
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
        """Remove the state of a round, if any. Raises ``StorageError``."""
        path = self.path(number, client)
        with storage_errors("remove", path):
            path.unlink(missing_ok=True)


def belong_together(state: Metadata, update: Metadata) -> bool:
    """Return whether a state and an update record the same inputs."""
    return (state.base, state.seed, state.training) == (update.base, update.seed, update.training)


def slots_kept(training: TrainingRecord) -> set[str]:
    """Return the slots of the state that a client keeps after this training."""
    row = ALGORITHMS.get(training.algorithm or "")
    kept = {row.keeps} if row is not None and row.keeps is not None else set()
    kept |= {LOCAL} if training.local_layers else set()
    return kept | {RESIDUAL} if training.feedback else kept


def _has(round_: Round, client: str) -> bool:
    """Return whether a model was made from a client's update; True if that is not known."""
    made = origin_of(round_)
    if made is None and header_of(round_) is None:
        manifest = Manifest.try_read(round_.manifest)
        made = None if manifest is None else MadeFrom.of(manifest)
    return made is None or bool(made.partials) or client in made.updates


def _server_optimizer(round_: Round) -> str | None:
    """Return the server optimizer that made a round's model, as its state says if it has one."""
    try:
        with Checkpoint(round_.server_state, Kind.SERVER_STATE) as state:
            if state.metadata.server is not None:
                return state.metadata.server.server_optimizer
    except (BadInputError, NotReadyError):
        pass
    manifest = Manifest.try_read(round_.manifest)
    return None if manifest is None else manifest.server_optimizer
