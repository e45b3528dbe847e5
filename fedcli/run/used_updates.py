"""Which updates global models were made from, by the headers of these models.

The header of a global model names the SHA-256s of its updates and of its base model; the file is
hashed by the next one, and signed if the run has a coordinator. ``aggregate.json`` says the same
and more, but anybody who can write may change it: nothing is decided by it that a header says too.
Where a header only has the SHA-256 of a long list, the list in ``aggregate.json`` must have it.
"""

from functools import lru_cache
from pathlib import Path

from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.made_from import MadeFrom, made_from
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.run.directory import Run
from fedcli.run.round import Round

_Place = tuple[str, int]  # a client, and the round of its update


def used_updates(run: Run, oldest: int, now: int) -> set[_Place]:
    """Return the updates, as (client, round), that the models of rounds before ``now`` used.

    Only rounds from ``oldest`` on are looked at. Where a model is missing or hides what is in its
    partial means, every update that it may have used counts as used. Raises ``BadInputError`` for a
    model that the one after it was not made from, or that cannot be read.
    """
    used: set[_Place] = set()
    expected: str | None = None
    for number in range(now - 1, max(oldest, 1) - 1, -1):
        found = _verified(run.round(number), expected)
        made = None if found is None else _looked_up(found, run.round(number))
        if made is None or made.partials:
            used |= _delivered(run, oldest, number)
        if found is None:
            break  # nothing says which models before it are right
        if made is not None:
            used |= {(client, made.late.get(client, number)) for client in made.updates}
        expected = found.base
    return used


def origin_of(round_: Round) -> MadeFrom | None:
    """Return what the global model of a round was made from.

    None if it is missing or cannot be read, or if neither its header tells nor the manifest.
    """
    model = header_of(round_)
    return None if model is None else _looked_up(model, round_)


def is_untold(round_: Round) -> bool:
    """Return whether the list that a model's header stands for is missing, or another one."""
    model = header_of(round_)
    listed = model is not None and model.list_sha256 is not None
    return listed and origin_of(round_) is None


def _looked_up(model: Metadata, round_: Round) -> MadeFrom | None:
    listed = model.list_sha256 is not None
    return made_from(model, Manifest.try_read(round_.manifest) if listed else None)


def _delivered(run: Run, oldest: int, last: int) -> set[_Place]:
    rounds = (round_ for round_ in run.rounds() if oldest <= round_.number <= last)
    return {(client, round_.number) for round_ in rounds for client in round_.delivered()}


def _verified(round_: Round, expected: str | None) -> Metadata | None:
    """Return the header of a model; None if it is missing, or the model of another round."""
    try:
        with Checkpoint(round_.global_model, Kind.GLOBAL) as model:
            if expected is not None and _digest(model.path, model.file.identity) != expected:
                raise BadInputError(
                    f"is not the model that round {round_.number + 1} was made from: expected"
                    f" SHA-256 {expected}",
                    hint="restore a good copy",
                    path=round_.global_model,
                )
            return model.metadata if model.metadata.round == round_.number else None
    except NotReadyError:
        return None


@lru_cache(maxsize=64)
def _digest(path: Path, identity: tuple[int, ...]) -> str:
    """Return the SHA-256 of a model; who waits for updates asks again and again."""
    with Checkpoint(path, Kind.GLOBAL) as model:
        return model.digest()


def header_of(round_: Round) -> Metadata | None:
    """Return the header of a round's global model; None if it is missing or cannot be read."""
    try:
        return _verified(round_, None)
    except BadInputError:
        return None


def disagreement(manifest: Manifest, model: Metadata | None) -> str | None:
    """Return what a manifest says otherwise than the header of its global model, or None."""
    if model is None or (model.updates is None and model.list_sha256 is None):
        return None
    listed, named = MadeFrom.of(manifest), MadeFrom.named_in(model)
    if named is None:
        if listed.sha256 != model.list_sha256:
            return "lists other updates"
    elif what := _other_list(listed, named):
        return f"names other {what}"
    return None if manifest.base == model.base else "names another base model"


def _other_list(listed: MadeFrom, named: MadeFrom) -> str | None:
    for what, said, expected in (
        ("updates", listed.updates, named.updates),
        ("partial means", listed.partials, named.partials),
        ("rounds of updates", listed.late, named.late),
    ):
        if dict(said) != dict(expected):
            return what
    return None


def disagreements(run: Run, oldest: int, now: int) -> list[str]:
    """Return what the manifests of these rounds say otherwise than their models, in words."""
    found = []
    for number in range(max(oldest, 1), now):
        round_ = run.round(number)
        manifest = Manifest.try_read(round_.manifest)
        if manifest is not None and (fault := disagreement(manifest, header_of(round_))):
            found.append(f"{round_.manifest} {fault} than the global model, whose header counts")
    return found
