"""Whether a copy of a run is a client's, which holds little more than that client's own files."""

from fedcli.formats.client_ids import is_client_id
from fedcli.run import Run

_SUFFIXES = (".safetensors", ".sig", ".json")


def holds_several(run: Run) -> bool:
    """Return whether a copy holds data, or files of updates, of more clients than one.

    A client's copy does not. The coordinator's does, even after ``gc``, which keeps the last rounds
    and all signatures and telemetry of used updates: whoever deletes a file there to hide something
    leaves these, or has to delete what nobody would miss to see.
    """
    if run.is_simulation:
        return True
    known = frozenset(run.info.clients)
    clients = {client for client in known if run.client_shard(client).exists()}
    for round_ in run.rounds():
        if round_.updates.is_dir():
            clients.update(
                path.stem
                for path in round_.updates.iterdir()
                if path.suffix in _SUFFIXES
                and (path.stem in known if known else is_client_id(path.stem))
            )
        if len(clients) > 1:
            return True
    return False
