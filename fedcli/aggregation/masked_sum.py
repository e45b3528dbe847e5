"""Open the sum of a round's masked updates, and write it as a partial mean."""

import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from fedcli.aggregation.base_model import Agreement, Base, Contents, read_base
from fedcli.errors import BadInputError, NotReadyError, UpdateError
from fedcli.formats.checkpoint import Checkpoint, create
from fedcli.formats.dtypes import as_float
from fedcli.formats.encoded import Parts
from fedcli.formats.masked import SurvivorList
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.training_record import TrainingRecord
from fedcli.masking.answers import read_answers
from fedcli.masking.cohort import Cohort
from fedcli.masking.delivered import add_masked
from fedcli.masking.masks import Mask, Words, add_masks
from fedcli.masking.rounds import cohort_of, grid_of, noise_of, read_shares, read_survivors
from fedcli.masking.unmasking import masks_to_remove
from fedcli.masking.vector import CLIPS, VectorLayout
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.next_command import unmask_command
from fedcli.run.round import Round


def open_sum(run: Run, round_: Round, output: Path, progress: Progress) -> None:
    """Write Σ over the survivors of w·(x + Δ) as a partial mean to ``output``.

    Anybody can do it, and gets the same bytes. Raises ``NotReadyError`` without a list of survivors
    and for fewer than t answers, ``BadInputError`` for a list, shares or answers that do not hold,
    ``UpdateError`` for an update that is not the listed one, and ``StorageError``.
    """
    cohort, survivors = cohort_of(run, round_), read_survivors(run, round_)
    masks = _masks(run, round_, cohort, survivors, progress)
    base, contents = _base_of(run, round_, survivors.survivors)
    digests = {client: files.update for client, files in survivors.survivors.items()}
    vector = vector_of(base, cohort)
    total = add_masked(run, round_, digests, vector.size)
    add_masks(total, masks)
    _check_range(run, round_, vector, total, len(digests))
    weight = vector.weight_of(total, len(digests))
    examples = None if vector.most_examples is None else weight
    described = _metadata(base, contents, digests, examples)
    _write(output, base, described, vector, total, weight)


def _masks(
    run: Run, round_: Round, cohort: Cohort, survivors: SurvivorList, progress: Progress
) -> list[Mask]:
    """Return the masks to take off. Raises ``NotReadyError`` that names who has not answered."""
    committed = {
        client: read_shares(cohort, round_, client, files.update, files.shares).commitments
        for client, files in survivors.survivors.items()
    }
    answers, faults = read_answers(run, round_, cohort, survivors)
    for fault in faults:
        progress.say(fault.message)
    if len(answers) < cohort.threshold:
        given = {answer.member for answer in answers}
        waiting = [member for member in cohort.members if member not in given]
        raise NotReadyError(
            f"round {round_.number}: {len(answers)} of {cohort.threshold} members have answered;"
            f" waiting for: {', '.join(waiting[:10])}",
            hint=unmask_command(run, waiting[0]),
        )
    return masks_to_remove(cohort, committed, answers)


def misfits(run: Run, round_: Round, clients: Iterable[str]) -> list[UpdateError]:
    """Return which masked updates hold other tensors than most, or not as many values as those.

    They cannot be added up, and nobody could take the masks off the sum of the others. Raises
    ``NotReadyError``, ``StorageError`` and what ``read_base`` does.
    """
    whole, said, sizes = read_base(run, round_), dict[str, Contents](), dict[str, int]()
    for client in clients:
        with Checkpoint(round_.update(client), Kind.UPDATE, most=whole.largest_update) as update:
            with suppress(ValueError):
                said[client] = Contents.of(update.metadata)
            sizes[client] = sum(math.prod(info.shape) for info in update.layout.values())
    agreed = Agreement.of({round_.number: whole}, list(said.items()))
    expected = vector_of(agreed.bases[round_.number], cohort_of(run, round_)).size
    return [
        UpdateError(
            f"has {size} masked values of other tensors than {agreed.whose}, expected {expected};"
            " all updates of a round need the same --freeze and --local-layers",
            path=round_.update(client),
            client=client,
        )
        for client, size in sizes.items()
        if size != expected or said.get(client) != agreed.declared
    ]


def vector_of(base: Base, cohort: Cohort) -> VectorLayout:
    """Return the layout of masked updates with the tensors of a base."""
    parts = Parts.of(base.layout, base.roles)
    return VectorLayout.of(base.run, base.round, grid_of(base.run, cohort), base.layout, parts)


def _base_of(run: Run, round_: Round, clients: Iterable[str]) -> tuple[Base, Contents]:
    """Return the base model with the tensors that all masked updates say they hold."""
    whole = read_base(run, round_)
    found: dict[Contents, str] = {}
    for client in clients:
        path = round_.update(client)
        try:
            with Checkpoint(path, Kind.UPDATE, most=whole.largest_update) as update:
                found.setdefault(Contents.of(update.metadata), client)
            if len(found) > 1:
                raise ValueError(
                    f"withholds other tensors than that of client {next(iter(found.values()))};"
                    " all updates of a round need the same --freeze and --local-layers"
                )
            contents = next(iter(found))
            base = contents.applied_to(whole)
        except ValueError as error:
            raise UpdateError(str(error), path=path, client=client) from None
        except (BadInputError, NotReadyError) as error:
            raise UpdateError(error.about(path), path=path, client=client) from None
    return base, contents


def _check_range(run: Run, round_: Round, vector: VectorLayout, total: Words, clients: int) -> None:
    """Raise ``BadInputError`` for a sum that clients within their limits cannot have."""
    noise = noise_of(run)
    for part, values in vector.divided(total):
        most = float(clients * part.grid.largest)
        if noise is not None:
            most = clients * min(part.grid.largest, noise.radius) + noise.most(clients)
        if beyond := int(np.count_nonzero((values < -most) | (values > most))):
            option = CLIPS[part.is_of_controls]
            raise _impossible(
                f"{beyond} of {values.size} sums lie beyond {clients} times {option}"
                f" {part.grid.clip:g}",
                round_,
            )
    examples, most_examples = vector.weight_of(total, clients), vector.most_examples
    if most_examples is not None and not clients <= examples <= clients * most_examples:
        raise _impossible(
            f"{clients} clients have {examples} examples together, expected {clients} …"
            f" {clients * most_examples}",
            round_,
        )


def _impossible(what: str, round_: Round) -> BadInputError:
    return BadInputError(
        f"{what}: a member sent values that it must not send, and masks hide which",
        hint="ask the members; the round cannot be used",
        path=round_.survivors,
    )


def _write(
    output: Path, base: Base, described: Metadata, vector: VectorLayout, total: Words, weight: int
) -> None:
    """Write W·x + Σq·g of every parameter, and Σq·g of every control variate, float64.

    W is the ``weight`` of all clients of the sum.
    """
    with base.open() as model, create(output, base.partial_layout(), described) as writer:
        for part, sums in vector.divided(total):
            for name, integers in part.tensors(sums).items():
                values = integers * (part.grid.step * vector.scale)
                if name in model.layout:
                    values += as_float(model.tensor(name)).astype(np.float64) * weight
                writer.write(values, writer.layout[name].start)


def _metadata(
    base: Base, contents: Contents, digests: dict[str, str], examples: int | None
) -> Metadata:
    """Describe the sum of clients with so many examples; None if they count alike."""
    withheld = {"freeze": contents.freeze, "local_layers": contents.local_layers}
    return Metadata(
        Kind.PARTIAL,
        base.run.id,
        round=base.round.number,
        num_examples=examples,
        base=base.sha256,
        roles=base.roles,
        tied=base.metadata.tied,
        seed=base.metadata.seed,
        updates=digests,
        weighting=base.run.info.plan.aggregate.weighting or "uniform",
        training=TrainingRecord().plus(withheld),
    )
