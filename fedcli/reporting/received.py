"""What clients received: the sizes of the files from which they got the models they trained."""

from pathlib import Path

from fedcli.reporting.run_report import ClientRound
from fedcli.run import Run
from fedcli.run.exchange import clients_read_state


class Received:
    """Counts, round by round, what each client needed beside what it had already.

    A client that has the model of an earlier round needs the deltas since then; one that drew the
    starting model itself has that. All others need the whole model. SCAFFOLD's clients read the
    server's state beside it.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._held: dict[str, int] = {}  # the latest model of each client
        self._reads_state = clients_read_state(run)

    def size(self, client: ClientRound) -> int | None:
        """Return the bytes that a client received to train an update; None if unknown."""
        number = client.update_round - 1
        model = self._model(client, number)
        return None if model is None else model + self._state(number)

    def _state(self, number: int) -> int:
        """Return the size of the server state of a round, or of a later one if that is gone."""
        if not self._reads_state or number == 0:
            return 0
        later = (r for r in self._run.rounds() if r.number >= number)
        sizes = (size_of(round_.server_state) for round_ in later)
        return next((size for size in sizes if size is not None), 0)

    def _model(self, client: ClientRound, number: int) -> int | None:
        held = self._held.get(client.client)
        self._held[client.client] = number
        if held is None and not client.drawn:
            return self.whole(number)
        deltas = self._deltas(0 if held is None else held + 1, number)
        return self.whole(number) if deltas is None else deltas

    def _deltas(self, first: int, last: int) -> int | None:
        """Return the sum of the sizes of rounds' deltas; None if one is missing."""
        found = 0
        for number in range(first, last + 1):  # as a stranger's file says: stop at the first gap
            size = size_of(self._run.round(number).delta)
            if size is None:
                return None
            found += size
        return found

    def whole(self, number: int) -> int | None:
        """Return the size of a round's model, or of the one made from it if that is gone."""
        size = size_of(self._run.round(number).global_model)
        return size_of(self._run.round(number + 1).global_model) if size is None else size


def size_of(path: Path) -> int | None:
    """Return the size of a file in bytes; None if it is not here."""
    try:
        return path.stat().st_size
    except OSError:
        return None
