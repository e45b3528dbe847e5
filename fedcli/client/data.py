"""A client's training examples: its shard in the run, or its own data."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fedcli.client.existing_update import fingerprint
from fedcli.datasets.shards import Examples, read_shard
from fedcli.errors import NotReadyError, UsageError
from fedcli.options import NONE, Given, option_of
from fedcli.plan.execution import Execution
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.next_command import train_command
from fedcli.system import available_cores
from fedcli.training.batches import InMemory, Source

_WORKERS = 4  # the default limit: four decode faster than most networks train


@dataclass(frozen=True)
class ClientData:
    """A client's examples: their SHA-256 ``fingerprint`` and a ``source`` of batches.

    ``skipped`` are files that were left out because they cannot be decoded.
    """

    count: int
    fingerprint: str
    source: Callable[[torch.device], Source]
    skipped: tuple[str, ...] = ()


def open_data(
    run: Run,
    client: str,
    data: str | None,
    execution: Execution,
    device: torch.device,
    progress: Progress,
    reading: Given = NONE,
) -> ClientData:
    """Read a client's examples, from ``data`` if it is given, as ``reading`` says.

    Raises ``NotReadyError`` if there are none, and what reading them raises.
    """
    if execution.num_workers is not None and not execution.stream:
        raise UsageError("--num-workers: has no effect without --stream")
    if reading and data is None:
        raise UsageError(f"{option_of(next(iter(reading)))}: says how --data is read")
    if execution.stream:
        return _streamed(run, data, execution, device, progress, reading)
    examples = _examples(run, client, data, progress, reading)
    x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
    return ClientData(
        len(y), fingerprint(examples), lambda device: InMemory(x, y, device), examples.skipped
    )


def _streamed(
    run: Run,
    data: str | None,
    execution: Execution,
    device: torch.device,
    progress: Progress,
    reading: Given,
) -> ClientData:
    """Open data that is decoded batch by batch, and once in advance for its fingerprint."""
    from fedcli.datasets import open_examples
    from fedcli.training.streaming import Streamed

    if data is None:
        raise UsageError("--stream: decodes --data; the run's shards are decoded already")
    workers = min(_WORKERS, available_cores())
    if execution.num_workers is not None:
        workers = execution.num_workers
    # Each worker decodes with one thread. Without workers, this process decodes with all threads.
    threads = 1 if workers else None
    part = open_examples(
        data, run.info.dataset, "train", progress, threads=threads, reading=reading
    )
    source = Streamed(part, device, workers)
    return ClientData(len(source), source.fingerprint(progress), lambda _: source, part.skipped)


def _examples(
    run: Run, client: str, data: str | None, progress: Progress, reading: Given
) -> Examples:
    if data is not None:
        from fedcli.datasets import load_examples  # only for own images

        return load_examples(data, run.info.dataset, "train", progress, reading)
    shard = run.client_shard(client)
    if not shard.exists():
        raise NotReadyError(
            f"the run holds no data for client {client!r}",
            hint=f"to use that client's own data: {train_command(run, [client])}",
            path=shard,
        )
    return read_shard(shard, run)
