"""Open the updates of a round, and refuse those that do not fit it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fedcli.aggregation.base_model import Agreement, Base, Contents, read_base
from fedcli.aggregation.encodings import OpenBases
from fedcli.aggregation.remedies import Mend, Remedies, UnusableError
from fedcli.aggregation.updates import Update, check_tensors
from fedcli.errors import BadInputError, CheckpointError, UpdateError
from fedcli.formats.metadata import Kind, Metadata, check_counted
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.signatures import signature_fault

# Many systems let a process open 1024 files. Further updates are reopened for every block.
_KEPT_OPEN = 256
_MOST_REMEDIES = 100  # each looks at all rounds, and an attacker may cause thousands of errors
_MOST_EXAMPLES = 10**9  # per client: a larger claim can only be meant to gain weight


@dataclass(frozen=True)
class Opened:
    """The updates of a round, and the base model reduced to the tensors they hold."""

    base: Base
    updates: list[Update]


@contextmanager
def open_updates(
    run: Run,
    round_: Round,
    accepted: Sequence[tuple[int, str]],
    partials: Sequence[Path] = (),
    weighting: str = "",
    max_examples: float | None = None,
) -> Iterator[Opened]:
    """Open updates and check each against its own base, then partial means of the same weighting.

    ``accepted`` lists clients with the rounds of their updates; ``max_examples`` limits the
    number of examples that a client may report. Only headers are read. Raises one
    ``UpdateError`` for all bad updates, with file, tensor, expected and found.
    """
    numbers = sorted({round_.number, *(number for number, _ in accepted)})
    bases = {number: read_base(run, run.round(number)) for number in numbers}
    most = _MOST_EXAMPLES if max_examples is None else max_examples
    with ExitStack() as files:
        opening = _Opening(bases, round_.number, files)
        opening.open_clients(accepted, most)
        opening.open_partials(partials, weighting)
        yield Opened(opening.agreement.bases[round_.number], opening.updates)


@dataclass(frozen=True)
class _Header:
    """An open file that belongs to its round; ``whole`` is its base with all tensors."""

    name: str
    whole: Base
    tensors: UpdateTensors
    declared: Contents


class _Opening:
    """Opens the files of a round: reads all headers, then checks each against the majority."""

    def __init__(self, bases: Mapping[int, Base], now: int, files: ExitStack) -> None:
        self.updates: list[Update] = []
        self.agreement = Agreement(bases)
        self._whole = bases
        self._now = now
        self._files = files
        self._models = OpenBases(files)
        self._opened: list[UpdateTensors] = []
        self._remedies = 0

    def open_clients(self, accepted: Sequence[tuple[int, str]], most: float) -> None:
        """Open the updates of clients, by round. Raises one ``UpdateError`` for all bad ones."""
        headers: dict[tuple[int, str], _Header] = {}
        errors: dict[tuple[int, str], UpdateError] = {}
        for number, client in accepted:
            try:
                headers[number, client] = self._read_update(number, client, most)
            except UpdateError as error:
                errors[number, client] = error
        self._agree({f"the update of client {h.name}": h for h in headers.values()})
        for place, header in headers.items():
            try:
                with self._refusing(header.whole, header.name):
                    base = self._base_of(header)
                    self._models.decode(header.tensors, base)
                    check_tensors(base, base.layout, header.tensors)
            except UpdateError as error:
                errors[place] = error
            else:
                self._add(header, base)
        if errors:
            raise UpdateError.together([errors[place] for place in accepted if place in errors])

    def open_partials(self, paths: Sequence[Path], weighting: str) -> None:
        """Open partial means. Raises ``UpdateError`` and what opening raises."""
        headers = {str(path): self._read_partial(path) for path in paths}
        if not self.updates:
            self._agree(headers)
        for path, header in zip(paths, headers.values(), strict=True):
            with _refused(path, _partial_again):
                base = self._base_of(header)
                check_tensors(base, base.partial_layout(), header.tensors)
                _check_partial(header.tensors.metadata, weighting)
            self._add(header, base)

    def _read_update(self, number: int, client: str, most: float) -> _Header:
        whole = self._whole[number]
        with self._refusing(whole, client):
            tensors = self._open_update(whole, client)
            found = tensors.metadata
            if found.client != client:
                reason = f"belongs to client {found.client}, expected {client}"
                raise UnusableError(reason, _move(found))
            _check_origin(whole, found)
            if (found.num_examples or 0) > most:
                raise ValueError(f"has num_examples {found.num_examples}, expected {most} at most")
            if fault := signature_fault(whole.run, whole.round, client, None):
                raise UnusableError(fault, Remedies.sign)
            return _Header(client, whole, tensors, Contents.of(found))

    def _open_update(self, whole: Base, client: str) -> UpdateTensors:
        path = whole.round.update(client)
        try:
            return self._open(path, Kind.UPDATE, whole.largest_update)
        except CheckpointError as error:
            raise UnusableError(error.about(path), Remedies.copy) from None

    def _read_partial(self, path: Path) -> _Header:
        tensors, whole = self._open(path, Kind.PARTIAL), self._whole[self._now]
        with _refused(path, _partial_again):
            _check_origin(whole, tensors.metadata)
            return _Header(path.stem, whole, tensors, Contents.of(tensors.metadata))

    def _open(self, path: Path, kind: Kind, most: int | None = None) -> UpdateTensors:
        tensors = self._files.enter_context(UpdateTensors(path, kind, most=most))
        if self._opened:
            tensors.share(self._opened[-1])
        self._opened.append(tensors)
        if len(self._opened) > _KEPT_OPEN:
            tensors.close()  # reading reopens it
        return tensors

    def _agree(self, headers: Mapping[str, _Header]) -> None:
        said = [(whose, header.declared) for whose, header in headers.items()]
        self.agreement = Agreement.of(self._whole, said)

    def _base_of(self, header: _Header) -> Base:
        return self.agreement.base_of(header.whole, header.declared)

    @contextmanager
    def _refusing(self, base: Base, client: str) -> Iterator[None]:
        """Turn errors about a client's update into an ``UpdateError``."""
        path = base.round.update(client)
        try:
            yield
        except BadInputError as error:
            raise self._error(base, client, error.about(path)) from None
        except ValueError as error:
            mend = error.mend if isinstance(error, UnusableError) else Remedies.again
            raise self._error(base, client, str(error), mend) from None

    def _error(
        self, base: Base, client: str, reason: str, mend: Mend = Remedies.again
    ) -> UpdateError:
        self._remedies += 1
        if self._remedies > _MOST_REMEDIES:
            return UpdateError(reason, path=base.round.update(client), client=client)
        return Remedies(base, client, self._now).error(reason, mend)

    def _add(self, header: _Header, base: Base) -> None:
        update = Update(header.name, base, header.tensors, self._now)
        if len(self.updates) >= _KEPT_OPEN:
            update.values.keep_open = False
            update.values.close()
        self.updates.append(update)


@contextmanager
def _refused(path: Path, hint: Callable[[], str | None]) -> Iterator[None]:
    """Turn errors about a file into an ``UpdateError``."""
    try:
        yield
    except (BadInputError, ValueError) as error:
        what = error.about(path) if isinstance(error, BadInputError) else str(error)
        raise UpdateError(what, hint=hint(), path=path) from None


def _partial_again() -> str:
    return "fedcli aggregate --partial writes a new one"


def _check_partial(found: Metadata, weighting: str) -> None:
    if not found.updates:
        raise ValueError("names no update")
    if found.encoding is not None:
        raise ValueError("is encoded, but partial means are not")
    if found.weighting != weighting:
        raise ValueError(f"was made with --weighting {found.weighting}, not {weighting}")


def _check_origin(base: Base, found: Metadata) -> None:
    moved = _move(found) if found.run == base.run.id else Remedies.again
    for what, expected, value, mend in (
        ("belongs to run", base.run.id, found.run, Remedies.again),
        ("belongs to round", base.round.number, found.round, moved),
        (
            f"was trained from another base model than {base.path}: SHA-256",
            base.sha256,
            found.base,
            Remedies.rebase,
        ),
    ):
        if value != expected:
            raise UnusableError(f"{what} {value}, expected {expected}", mend)
    check_counted(found)


def _move(found: Metadata) -> Mend:
    """Return what to do with an update that lies in the place of another."""
    return partial(Remedies.move, found=found)


def refusals(
    run: Run, round_: Round, accepted: Sequence[tuple[int, str]], max_examples: float | None
) -> tuple[UpdateError, ...]:
    """Return why updates cannot take part in a round, as far as their headers tell.

    Arguments as in ``open_updates``. Raises what it does, except ``UpdateError``.
    """
    try:
        with open_updates(run, round_, accepted, max_examples=max_examples):
            return ()
    except UpdateError as error:
        return error.each
