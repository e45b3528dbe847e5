"""Examples that are decoded on demand, for folders too large for memory.

The batches are bit for bit those of the same examples in memory.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fedcli.datasets import Part
from fedcli.datasets.shards import chunks
from fedcli.errors import FedcliError
from fedcli.progress import Progress

Batch = tuple[Tensor, Tensor]


class Streamed:
    """A source of batches, decoded by ``workers`` processes, or by this process if that is 0.

    Workers start with the first batch, decode two batches ahead each, and stop when the source is
    deleted. Batches for a GPU go through pinned memory.
    """

    def __init__(self, part: Part, device: torch.device, workers: int) -> None:
        self.part = part
        self.device = device
        self._order = _Order()
        self._loader: DataLoader[Batch | FedcliError] = DataLoader(
            _Decoded(part),
            batch_size=None,  # an item is a whole batch
            sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            collate_fn=_unchanged,
            generator=torch.Generator(),  # else it draws from torch's global one
        )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.part.labels)

    def epoch(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the examples of each batch: x as stored, y int64, both on the device.

        A batch is an int64 tensor of indices on the CPU. Raises ``DataError`` for a file that
        cannot be decoded, ``FedcliError`` if a worker dies.
        """
        self._order.batches = batches
        loaded = iter(self._loader)
        while True:
            batch = self._next(loaded)
            if isinstance(batch, _DeadWorker):
                # Until its loader is deleted, torch keeps raising errors about the dead worker.
                del loaded, self._loader
                raise FedcliError(
                    f"--num-workers: a worker died: {batch.reason}",
                    hint="(shared) memory may be too small for them: try --num-workers 0",
                )
            if isinstance(batch, FedcliError):
                raise batch
            if batch is None:
                return
            x, y = batch
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def _next(
        self, loaded: Iterator[Batch | FedcliError]
    ) -> "Batch | FedcliError | _DeadWorker | None":
        """Return the next batch, None at the end, or the error of a worker."""
        try:
            try:
                return next(loaded, None)
            except (OSError, EOFError) as error:  # the worker died while handing over a batch
                if not self._loader.num_workers:
                    raise
                return _DeadWorker(str(error) or type(error).__name__)
        except RuntimeError as error:  # torch's SIGCHLD handler may raise at any time
            if "DataLoader worker" not in str(error):
                raise
            return _DeadWorker(str(error) or type(error).__name__)

    def fingerprint(self, progress: Progress) -> str:
        """Return the SHA-256 of labels and examples, hex, the same as for examples in memory.

        It decodes all examples once, in order, and holds a few megabytes of them.
        """
        everything = np.arange(len(self))
        sha256 = hashlib.sha256(np.ascontiguousarray(self.part.labels).data)
        if not len(self):
            return sha256.hexdigest()
        bytes_each = self.part.read(everything[:1]).nbytes
        pieces = [torch.from_numpy(one) for one in chunks(everything, max(1, bytes_each))]
        progress.start("checking examples", len(self))
        for x, y in self.epoch(pieces):
            sha256.update(np.ascontiguousarray(x.cpu().numpy()).data)
            progress.advance(len(y))
        return sha256.hexdigest()


@dataclass(frozen=True)
class _DeadWorker:
    """A dead worker, and torch's reason."""

    reason: str


class _Order(Sampler[Tensor]):
    """The batches of the epoch; workers stay alive when they change."""

    def __init__(self) -> None:
        self.batches: Sequence[Tensor] = ()

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Decoded(Dataset[Batch | FedcliError]):
    def __init__(self, part: Part) -> None:
        self._part = part

    def __getitem__(self, batch: Tensor) -> Batch | FedcliError:
        chosen = batch.numpy()
        try:
            x = np.ascontiguousarray(self._part.read(chosen))
        except FedcliError as error:
            return error  # raised in a worker, it would become the text of a traceback
        return torch.from_numpy(x), torch.from_numpy(self._part.labels[chosen])


def _unchanged(batch: Any) -> Any:
    return batch
