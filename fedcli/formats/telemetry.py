"""``updates/ID.json``: how the training of one client went. All of it is volatile."""

from dataclasses import dataclass

from fedcli.formats.records import ClientId, Count, FileRecord, Sparse


@dataclass(frozen=True)
class EpochFigures:
    """One local epoch: mean loss and accuracy (0 to 1) over the examples as they were trained."""

    epoch: Count
    loss: float | None = None
    accuracy: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Telemetry(Sparse, FileRecord):
    """How the training went that made the update of this SHA-256; see ``docs/run-directory.md``.

    ``seconds`` and ``images_per_second`` are over all epochs, without reading data;
    ``peak_memory_bytes`` is of the GPU, or of the process. ``micro_batch`` is how many examples
    were put through at a time in the end, where these were less than a batch or asked for.
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
    threads: Count | None = None
    peak_memory_bytes: Count | None = None
    device_memory_bytes: Count | None = None
    micro_batch: Count | None = None
    created: str | None = None
    epochs: tuple[EpochFigures, ...] = ()
    personal_epochs: tuple[EpochFigures, ...] = ()
