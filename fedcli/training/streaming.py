"""Examples that are decoded when they are needed, for folders too large to hold in memory.

The batches are the same, bit for bit, as those of the same examples in memory.
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
    """A source of batches for training, decoded by ``workers`` processes; by this one with 0.

    Workers are started with the first batch, and decode two batches each ahead; they stop when
    the source is let go. To a GPU, batches go through pinned memory.
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
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # or it would draw from torch's global one
        )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.part.labels)

    def epoch(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the examples of each batch: x as it is stored, y int64, both on the device.

        A batch is an int64 tensor of indices on the CPU. Raises ``DataError`` for a file that does
        not decode, ``FedcliError`` when a worker dies.
        """
        self._order.batches = batches
        loaded = iter(self._loader)
        while True:
            batch = self._next(loaded)
            if isinstance(batch, _Dead):
                # torch goes on to watch the dead worker, and to raise, until its loader is gone
                del loaded, self._loader
                raise FedcliError(
                    f"--num-workers: a worker died: {batch.reason}",
                    hint="there may be too little (shared) memory for so many: --num-workers 0",
                )
            if isinstance(batch, FedcliError):
                raise batch
            if batch is None:
                return
            x, y = batch
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def _next(self, loaded: Iterator[Batch | FedcliError]) -> "Batch | FedcliError | _Dead | None":
        """Return the next batch, None at the end, or the error that a worker met or died of."""
        try:
            try:
                return next(loaded, None)
            except (OSError, EOFError) as error:  # what it was about to hand over went with it
                if not self._loader.num_workers:
                    raise
                return _Dead(str(error) or type(error).__name__)
        except RuntimeError as error:  # from torch's handler of a child's end, at any time
            if "DataLoader worker" not in str(error):
                raise
            return _Dead(str(error) or type(error).__name__)

    def fingerprint(self, progress: Progress) -> str:
        """Return the SHA-256, hex, of labels and examples, as of the same examples in memory.

        It takes decoding all examples once, in their order, and holding a few megabytes of them.
        """
        everything = np.arange(len(self))
        sha256 = hashlib.sha256(np.ascontiguousarray(self.part.labels).data)
        if not len(self):
            return sha256.hexdigest()
        bytes_each = self.part.read(everything[:1]).nbytes
        stretches = [torch.from_numpy(one) for one in chunks(everything, max(1, bytes_each))]
        progress.start("checking examples", len(self))
        for x, y in self.epoch(stretches):
            sha256.update(np.ascontiguousarray(x.cpu().numpy()).data)
            progress.advance(len(y))
        return sha256.hexdigest()


@dataclass(frozen=True)
class _Dead:
    """A worker that is no more, and what torch says of it."""

    reason: str


class _Order(Sampler[Tensor]):
    """The batches of the epoch; the workers stay when it changes."""

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
            return error  # raised in a worker, it would come out as the text of a traceback
        return torch.from_numpy(x), torch.from_numpy(self._part.labels[chosen])


def _as_it_is(batch: Any) -> Any:
    return batch
