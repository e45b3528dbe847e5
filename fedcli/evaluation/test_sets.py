"""The examples on which ``evaluate`` scores: the run's test sets, the clients', or other data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.client.existing_update import fingerprint
from fedcli.datasets.shards import read_shard
from fedcli.errors import NotReadyError, UsageError
from fedcli.options import NONE, Given, option_of
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.next_command import evaluate_command
from fedcli.text import printable

if TYPE_CHECKING:
    from fedcli.datasets.shards import Examples

Parts = Mapping[str, "Callable[[], Examples]"]
Choice = Callable[[str | None], "Sequence[TestSet]"]


@dataclass(frozen=True)
class TestSet:
    """Examples to score on, named as in ``evaluation.json``; ``client`` is their owner, if any.

    They are read part by part. Test sets that share a part use the same name for it.
    """

    name: str
    client: str | None
    parts: Parts

    @property
    def title(self) -> str:
        """The name for people."""
        return self.name if self.client is None else f"{self.name} of client {self.client}"


def choose(
    run: Run,
    *,
    on_clients: bool,
    data: str | None,
    personal: bool,
    progress: Progress,
    reading: Given = NONE,
) -> Choice:
    """Return a function from a client, or None for the global model, to the test sets to use.

    Raises ``UsageError``, ``NotReadyError`` if the run holds no such data, and what reading
    ``data`` raises.
    """
    if on_clients and (data is not None or personal):
        other = "--data" if data is not None else "--personal"
        raise UsageError(f"--clients and {other} exclude each other")
    if data is not None:
        own = [_own_data(run, data, progress, reading)]
        return lambda client: own
    if reading:
        raise UsageError(f"{option_of(next(iter(reading)))}: says how --data is read")
    if personal:
        return partial(_for_personal, run)
    if on_clients:
        theirs = _of_clients(run)
        return lambda client: theirs
    return _default(run)


def _default(run: Run) -> Choice:
    """Choose the common test set or, without one, the clients' test sets, pooled and separate.

    A client's model is then scored on the pooled test set and on the client's own.
    """
    if run.test_shard.exists():
        common = [_shard(run, "test", None, run.test_shard)]
        return lambda client: common
    tests = _client_tests(run)
    if not tests:
        raise NotReadyError(
            "this run holds no test data",
            hint=f"provide some: {evaluate_command(run)}",
            path=run.test_shard,
        )
    pooled = TestSet("test", None, {k: v for one in tests for k, v in one.parts.items()})
    return lambda client: [pooled, *(one for one in tests if client in (None, one.client))]


def _for_personal(run: Run, client: str | None) -> list[TestSet]:
    """Choose the client's test set, its validation set, or the common test set, in this order."""
    assert client is not None
    for name, owner, path in (
        ("client-test", client, run.client_test_shard(client)),
        ("validation", client, run.validation_shard(client)),
        ("test", None, run.test_shard),
    ):
        if path.exists():
            return [_shard(run, name, owner, path)]
    raise NotReadyError(
        f"this run holds no data to score client {client} on",
        hint=f"provide some: {run.command(f'evaluate --personal --id {client} --data PATH')}",
        path=run.root,
    )


def _of_clients(run: Run) -> list[TestSet]:
    sets = _client_tests(run) or _shards(run, "validation", run.validation_shard)
    if not sets:
        raise NotReadyError(
            "this run holds no test or validation data of its clients",
            hint="create the run with: fedcli partition --test-split client, or --val-fraction 0.1",
            path=run.root,
        )
    return sets


def _client_tests(run: Run) -> list[TestSet]:
    return _shards(run, "client-test", run.client_test_shard)


def _shards(run: Run, name: str, path: Callable[[str], Path]) -> list[TestSet]:
    having = (client for client in run.info.clients if path(client).exists())
    return [_shard(run, name, client, path(client)) for client in having]


def _shard(run: Run, name: str, client: str | None, path: Path) -> TestSet:
    return TestSet(name, client, {path.name: partial(read_shard, path, run)})


def _own_data(run: Run, data: str, progress: Progress, reading: Given) -> TestSet:
    from fedcli.datasets import load_examples

    examples = load_examples(data, run.info.dataset, "test", progress, reading)
    # Folders may share a name or change, so the content identifies them.
    name = f"{printable(Path(data).resolve().name)} ({fingerprint(examples)[:8]})"
    return TestSet(name, None, {name: lambda: examples})
