"""A run on disk: its paths, ``run.json``, its rounds, and the open round.

The layout is specified in ``docs/run-directory.md``.
"""

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedcli.errors import NotReadyError, RunFormatError, UsageError
from fedcli.run.info import FORMAT, RunInfo, check_client_id, client_order, parse, run_id
from fedcli.run.round import Round, names_in
from fedcli.storage.atomic import read_json, write_json
from fedcli.text import brief

DEFAULT_RUN = Path("fedrun")
_ROUND_DIRECTORY = re.compile(r"[0-9]{4}|[1-9][0-9]{4,8}")


@dataclass(frozen=True)
class Run:
    """An open run directory; ``info`` is the content of its ``run.json``."""

    root: Path
    info: RunInfo
    id: str

    @classmethod
    def open(cls, root: Path) -> Self:
        """Read ``run.json``.

        Raises ``RunFormatError`` when it is missing, broken, changed, or of a newer format.
        """
        run, found = cls.open_unverified(root)
        if run.id != found:
            path = root / "run.json"
            raise RunFormatError(
                "was changed by hand: its id does not match its content", path=path
            )
        return run

    @classmethod
    def open_unverified(cls, root: Path) -> tuple[Self, str]:
        """Read ``run.json`` without checking its id; return the run and the id of the content.

        The run keeps the id in the file, which differs from the other if the file was changed.
        Raises what ``open`` does.
        """
        path = root / "run.json"
        try:
            values = read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            option = "" if root == DEFAULT_RUN else f" --run {shlex.quote(str(root))}"
            raise RunFormatError(
                "not a run directory: it has no run.json",
                hint=f"make one with: fedcli partition{option}, or fedcli init{option}",
                path=root,
            ) from None
        except ValueError as error:
            raise RunFormatError(f"not readable as JSON: {error}", path=path) from None
        found = values.get("format")
        if type(found) is not int or not 1 <= found <= FORMAT:
            raise RunFormatError(
                f"run format {brief(found)}; this fedcli reads format {FORMAT}",
                hint="install the fedcli that made the run, or a newer one",
                path=path,
            )
        return cls(root, parse(values, path), str(values.get("id"))), run_id(values)

    @classmethod
    def create(cls, root: Path, info: RunInfo) -> Self:
        """Write ``run.json``, the last file of a new run: without it, a directory is not a run."""
        write_json(root / "run.json", info.as_json())
        return cls(root, info, info.id)

    def command(self, words: str) -> str:
        """Return the command line ``fedcli <words>`` for this run."""
        option = "" if self.root == DEFAULT_RUN else f" --run {shlex.quote(str(self.root))}"
        return f"fedcli {words}{option}"

    @property
    def running_file(self) -> Path:
        """``running.json``: the mark of an active ``fedcli run``."""
        return self.root / "running.json"

    @property
    def copy_file(self) -> Path:
        """``copy.json``: the mark of a client's copy, which ``pull`` makes."""
        return self.root / "copy.json"

    @property
    def receipts_file(self) -> Path:
        """``receipts.json``: which files are the same at remotes."""
        return self.root / "receipts.json"

    @property
    def is_simulation(self) -> bool:
        """Whether the data of every client is in the run."""
        shards = map(self.client_shard, self.info.clients)
        names = names_in(self.partition_file.parent)  # one look rather than thousands
        return bool(self.info.clients) and all(path.name in names for path in shards)

    @property
    def partition_file(self) -> Path:
        """``data/partition.json``: how the data was partitioned."""
        return self.root / "data" / "partition.json"

    @property
    def test_shard(self) -> Path:
        """The common test set."""
        return self.root / "data" / "test.safetensors"

    def client_shard(self, client: str) -> Path:
        """The examples of a simulated client."""
        return self.root / "data" / f"client-{client}.safetensors"

    def validation_shard(self, client: str) -> Path:
        """The held-out examples of a simulated client."""
        return self.root / "data" / f"client-{client}.val.safetensors"

    def client_test_shard(self, client: str) -> Path:
        """The test examples of a simulated client."""
        return self.root / "data" / f"client-{client}.test.safetensors"

    def member_key(self, client: str) -> Path:
        """The private keys of a simulated client, in a run whose updates are masked."""
        return self.root / "keys" / "clients" / f"{client}.key"

    @property
    def coordinator_key(self) -> Path:
        """The private keys of the coordinator of a simulation whose updates are masked."""
        return self.root / "keys" / "coordinator.key"

    @property
    def has_keys(self) -> bool:
        """Whether the keys of all parties are in the run, so that no command must be told them."""
        return self.coordinator_key.exists()

    @property
    def has_test_data(self) -> bool:
        """Whether the run has a test set, common or of clients."""
        if self.test_shard.exists():
            return True
        own = map(self.client_test_shard, self.info.clients)
        names = names_in(self.partition_file.parent)
        return any(path.name in names for path in own)

    def round(self, number: int) -> Round:
        """Return the paths of one round, which need not exist."""
        return Round(self.root, number)

    def largest_update(self, number: int) -> int | None:
        """Return how many bytes an update of a round may have; None if its base model is missing.

        Control variates double the size of a model; larger files are never read.
        """
        try:
            return 4 * self.round(number - 1).global_model.stat().st_size + 16_000_000
        except OSError:
            return None

    def rounds(self) -> list[Round]:
        """The rounds that have a directory, in order."""
        try:
            names = [path.name for path in (self.root / "rounds").iterdir()]
        except FileNotFoundError:
            names = []
        numbers = sorted(int(name) for name in names if _ROUND_DIRECTORY.fullmatch(name))
        return [self.round(number) for number in numbers]

    def complete_rounds(self) -> list[Round]:
        """The rounds that have a global model, round 0 (the starting model) among them."""
        return [round_ for round_ in self.rounds() if round_.global_model.exists()]

    def latest_round(self) -> Round:
        """The last round that has a global model. Raises ``NotReadyError`` without one."""
        complete = self.complete_rounds()
        if not complete:
            raise NotReadyError("the starting model is missing", path=self.round(0).global_model)
        return complete[-1]

    def open_round(self) -> Round:
        """The round that clients train now: the one after the last complete round."""
        return self.round(self.latest_round().number + 1)

    def training_round(self, number: int | None) -> Round:
        """Return round ``number``, by default the open one, after checking its base model.

        Raises ``UsageError`` for a round below 1, ``NotReadyError`` for one after the open round,
        and ``BadInputError`` if one of its folders is a link, which could lead anywhere.
        """
        if number is None:
            return self.open_round().without_links()
        if number < 1:
            raise UsageError(
                f"--round: expected 1 or more, found {number} (0 is the starting model)"
            )
        if not self.round(number - 1).global_model.exists():
            raise NotReadyError(
                f"--round: round {number} cannot start: round {number - 1} has no global model;"
                f" the open round is {self.open_round().number}"
            )
        return self.round(number).without_links()

    def choose_clients(self, selection: Sequence[str], option: str = "--id") -> list[str]:
        """Resolve ``--id`` values: ``2``, ``0,3,5``, ``0-9``, ``all`` or names, in client order.

        A run without a list of clients accepts any id. Raises ``UsageError`` for an id that is
        malformed or unknown to the run.
        """
        chosen: list[str] = []
        known_ids = frozenset(self.info.clients)
        for part in ",".join(selection).split(","):
            chosen += self._expand(part.strip(), known_ids, option)
        for client in chosen:
            check_client_id(client)
            if known_ids and client not in known_ids:
                known = ", ".join(self.info.clients[:10])
                more = ", …" if len(self.info.clients) > 10 else ""
                raise UsageError(
                    f"{option}: this run has no client {client!r}; it has: {known}{more}"
                )
        return client_order(chosen)

    def _expand(self, part: str, known: Collection[str], option: str) -> Sequence[str]:
        if part in known:
            return [part]
        if part == "all":
            if not self.info.clients:
                raise UsageError(f"{option} all: this run was made without a list of clients")
            return self.info.clients
        if match := re.fullmatch(r"(\d+)-(\d+)", part):
            first, last = int(match[1]), int(match[2])
            if last < first or last - first >= 1_000_000:
                raise UsageError(f"{option}: expected a range such as 0-9, found {part!r}")
            return [str(number) for number in range(first, last + 1)]
        return [part]
