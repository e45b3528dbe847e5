"""Mask a client's update: integers on a grid, the masks of all members, and sealed shares."""

import math
from dataclasses import dataclass, replace

import numpy as np

from fedcli.client.local_training import Trained
from fedcli.client.session import Session
from fedcli.client.starting_state import StartingState
from fedcli.client.withheld import without_steps
from fedcli.codecs.base import Steps
from fedcli.errors import ConflictError, UsageError
from fedcli.formats.checkpoint import digest
from fedcli.formats.dtypes import Array, as_float
from fedcli.formats.encoded import Parts, Values, add_step, changes, flat
from fedcli.formats.metadata import Metadata, Role
from fedcli.formats.safetensors import layout_of
from fedcli.masking.keys import read_masking_key
from fedcli.masking.maskable import check_roles
from fedcli.masking.masks import Integers, mask
from fedcli.masking.noise import add_noise, norm_of, shortened
from fedcli.masking.pairwise import Agreement, Seeds
from fedcli.masking.quantise import Grid, Quantised
from fedcli.masking.rounds import (
    MASKED,
    check_member_key,
    cohort_of,
    grid_of,
    mask_encoding,
    noise_of,
    shares_file,
)
from fedcli.masking.shares import seal
from fedcli.masking.spending import check_limit
from fedcli.masking.vector import MaskedPart, VectorLayout
from fedcli.plan import TrainPlan
from fedcli.plan.masked_noise import MaskedNoise
from fedcli.plan.secagg import check_maskable
from fedcli.run import Run
from fedcli.run.round import Round


@dataclass(frozen=True)
class Masking:
    """What a member needs to mask its update of a round."""

    agreement: Agreement
    grid: Grid
    noise: MaskedNoise | None

    @classmethod
    def of(cls, session: Session, client: str) -> "Masking | None":
        """Agree on secrets with the other members; None in a run whose updates are not masked.

        Raises ``UsageError`` for a client that is not drawn for this round, for options that mask
        nothing, and for another key than the member's; and what ``read_masking_key`` and
        ``check_limit`` do.
        """
        run, round_ = session.run, session.round
        if run.info.plan.secagg is None or session.key is None:
            return None
        check_maskable(replace(run.info.plan, train=session.plan))
        _check_planned(run, session.plan)
        check_roles("--secagg", session.plan, session.base.roles)
        cohort = cohort_of(run, round_)
        if client not in cohort.keys:
            raise UsageError(
                f"--id {client}: is not drawn for round {round_.number}, so nobody could take its"
                " mask off"
            )
        found = read_masking_key(session.key.path)
        check_member_key(run, client, found)
        away = session.tensors.withheld
        layout = session.base.layout
        check_limit(run, round_, sum(math.prod(layout[n].shape) for n in layout.keys() - away))
        return cls(Agreement.of(cohort, client, found), grid_of(run, cohort), noise_of(run))

    def check_open(self, round_: Round) -> None:
        """Raise ``ConflictError`` if the list of survivors is written: no update counts any more.

        Nobody would take the mask of another one off.
        """
        if round_.survivors.exists():
            raise ConflictError(
                f"round {round_.number} is closed; a masked update that comes now is in no sum",
                hint="train for the next round, when its global model is there",
                path=round_.survivors,
                client=self.agreement.member,
            )

    def withheld(self, run: Run, metadata: Metadata) -> Metadata:
        """Return metadata without what tells of the client's data, and with what masks it."""
        encoding = mask_encoding(run, self.agreement.cohort)
        return replace(without_steps(metadata), roles={}, encoding=encoding)

    def masked(
        self, session: Session, start: StartingState, trained: Trained, examples: int
    ) -> "MaskedUpdate":
        """Mask what a client sends: its steps, the changes of its control variates, its examples.

        Raises ``FedcliError`` for a step that is NaN or infinite, unless it is to be shortened:
        then it counts as zero.
        """
        layout = layout_of({name: (a.dtype, a.shape) for name, a in trained.sent.items()})
        controls = layout.keys() - session.base.layout.keys()
        held = Parts.of(layout, {**session.base.roles, **dict.fromkeys(controls, Role.CONTROL)})
        vector = VectorLayout.of(session.run, session.round, self.grid, layout, held)
        weight, kept = vector.weight(examples), dict(trained.kept)
        if vector.counted(examples) < examples:
            self._say(session, f"{examples} examples count as {vector.counted(examples)}")
        base, integers = session.base.read(), []
        for part in vector.parts:
            if not part.is_of_controls:
                step = changes(held.parameters, trained.sent, base, {})
                integers.append(self._integers(session, part, step, weight))
            else:
                sent = part.quantise(flat(trained.sent, held.controls), weight)
                self._say_clipped(session, part, sent)
                kept |= _own_controls(part, sent.values * (part.grid.step / weight), start.kept)
                integers.append(sent.values)
        made = mask(self.agreement, vector.joined(integers, examples))
        trained = replace(trained, sent={MASKED: made.words}, kept=kept)
        return MaskedUpdate(self.agreement, made.seeds, trained)

    def _integers(self, session: Session, part: MaskedPart, step: Steps, weight: float) -> Integers:
        """Return a step on the grid, with noise if the plan has any, and tell its owner of it."""
        if self.noise is None:
            quantised = part.quantise(step, weight)
        else:
            quantised = shortened(self.grid, self.noise, step)
            self._say_length(session, step, self.noise.clip)
        self._say_clipped(session, part, quantised)
        if self.noise is None:
            return quantised.values
        return add_noise(self.noise, self.agreement, quantised.values)

    def _say_clipped(self, session: Session, part: MaskedPart, quantised: Quantised) -> None:
        if quantised.clipped:
            count = f"{quantised.clipped} of {quantised.values.size} changes"
            self._say(session, f"{count} were beyond {part.grid.clip:g} and were cut off")

    def _say(self, session: Session, what: str) -> None:
        session.progress.say(f"client {self.agreement.member}: {what}")

    def _say_length(self, session: Session, step: Steps, most: float) -> None:
        norm = norm_of(step)
        if not math.isfinite(norm):
            self._say(session, "its step is NaN or infinite, and counts as zero")
        elif norm > most:
            self._say(session, f"its step of norm {norm:.4g} was shortened to {most:g}")


def _own_controls(part: MaskedPart, steps: Steps, before: Values) -> dict[str, Array]:
    """Return a client's own control variates, changed by what it has sent.

    So the server's is the mean of the clients' own, whatever rounding and clipping lose, and the
    next change makes up for it, as for encoded ones.
    """
    none = np.zeros((), np.float32)
    found = {}
    for name, step in part.tensors(steps.astype(np.float32)).items():
        start = as_float(before.get(name.partition("/")[2], none))
        found[name] = add_step(np.full(step.shape, start, part.layout[name].dtype), step)
    return found


def _check_planned(run: Run, train: TrainPlan) -> None:
    """Raise ``UsageError`` for a client that would send other coordinates than the others."""
    planned = run.info.plan.train.encode
    if train.encode != planned:
        raise UsageError(
            f"--encode {train.encode or 'float32'}: masked updates are added up, so all clients"
            f" send what the run says, {planned or 'float32'}",
            hint="leave --encode out",
        )


@dataclass(frozen=True)
class MaskedUpdate:
    """What a client sends, masked, and the seeds, which it seals when the update is finished."""

    agreement: Agreement
    seeds: Seeds
    trained: Trained

    def write_shares(self, round_: Round, update: str) -> str:
        """Write the shares beside an update of this SHA-256; return their own."""
        cohort, client = self.agreement.cohort, self.agreement.member
        sealed = seal(self.agreement, self.seeds, update)
        path = round_.shares(client)
        shares_file(cohort, client, update, sealed).write(path)
        return digest(path)
