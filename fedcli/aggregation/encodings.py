"""Encoded updates, read as the plain updates that they stand for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fedcli.aggregation.base_model import Base, Contents, read_base
from fedcli.codecs import PLAIN
from fedcli.errors import CheckpointError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Role
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.run import Run
from fedcli.text import brief


class OpenBases:
    """Base models that stay open while updates are decoded against them, one a round."""

    def __init__(self, files: ExitStack) -> None:
        self._files = files
        self._models: dict[int, Checkpoint] = {}

    def decode(self, update: UpdateTensors, base: Base) -> None:
        """Read an encoded update as the plain one; leave a plain one as it is.

        Raises what ``decode`` and ``Base.open`` raise.
        """
        number = base.round.number
        if update.is_encoded and number not in self._models:
            self._models[number] = self._files.enter_context(base.open())
        decode(update, base, self._models.get(number))


def decode(update: UpdateTensors, base: Base, model: Checkpoint | None) -> None:
    """Read an encoded update as the plain one that holds what ``base`` says, of an open model.

    A plain update is left as it is, and needs no model. Raises ``ValueError`` for an update that
    is not one of this base.
    """
    _check_record(update)
    if not update.is_encoded or model is None:
        return
    if update.metadata.base != base.sha256:
        raise ValueError(
            f"was trained from another base model than {base.path}: SHA-256"
            f" {update.metadata.base}, expected {base.sha256}"
        )
    roles = dict(update.metadata.roles)
    if roles != dict.fromkeys(base.controls(), Role.CONTROL):
        raise ValueError(f"is encoded, and has tensor roles {roles}; only controls have one")
    update.decode(base.layout, base.roles, model, base.run.info.seed)


def _check_record(update: UpdateTensors) -> None:
    """Refuse an encoding that the update's training record does not name: reports go by that."""
    said, found = update.metadata.training.encode or PLAIN, str(update.codec or PLAIN)
    if said != found:
        raise ValueError(f"is encoded as {found}, but records that it is encoded as {brief(said)}")


@contextmanager
def decoded(update: UpdateTensors, run: Run) -> Iterator[None]:
    """Let an open update of a run be read as the plain update that it stands for.

    Raises ``CheckpointError`` for an update that cannot be decoded, ``NotReadyError`` if its base
    model is missing, and what ``check_global_model`` raises.
    """
    if not update.is_encoded:
        yield
        return
    with ExitStack() as files:
        try:
            OpenBases(files).decode(update, _base_of(update, run))
        except ValueError as error:
            raise CheckpointError(str(error), path=update.path) from None
        yield


def _base_of(update: UpdateTensors, run: Run) -> Base:
    found = update.metadata
    if found.run != run.id or not found.round:
        raise ValueError(f"belongs to round {found.round} of run {found.run}, expected {run.id}")
    return Contents.of(found).applied_to(read_base(run, run.round(found.round)))
