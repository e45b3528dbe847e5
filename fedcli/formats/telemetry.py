"""``updates/ID.json``: how the training of one client went. All of it is volatile."""

from dataclasses import dataclass, field

from fedcli.formats.records import ClientId, Count, FileRecord, Sparse


@dataclass(frozen=True)
class EpochFigures:
    """One local epoch: mean loss and accuracy (0 to 1) over the examples during training."""

    epoch: Count
    loss: float | None = None
    accuracy: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Telemetry(Sparse, FileRecord):
    """How the training of the update with this SHA-256 went; see ``docs/run-directory.md``.

    ``seconds`` and ``images_per_second`` cover all epochs, without reading data;
    ``peak_memory_bytes`` is GPU memory, or that of the process on a CPU. ``micro_batch`` is the
    final number of examples per forward pass; None if that is the whole batch and no other was
    asked for. ``skipped`` is the number of files that could not be decoded and were left out.
    ``drawn`` says that the client drew the starting model from the run's seed, and got the same
    values. ``processor`` is the model of the device, ``versions`` are those of the programs.
    """

    sha256: str
    client: ClientId | None = None
    round: Count | None = None
    num_examples: Count | None = None
    bytes: Count | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    host: str | None = None
    device: str | None = None
    processor: str | None = None
    threads: Count | None = None
    peak_memory_bytes: Count | None = None
    device_memory_bytes: Count | None = None
    micro_batch: Count | None = None
    skipped: Count | None = None
    created: str | None = None
    drawn: bool = False
    versions: dict[str, str] = field(default_factory=dict, metadata={"sparse": True})
    epochs: tuple[EpochFigures, ...] = ()
    personal_epochs: tuple[EpochFigures, ...] = ()
