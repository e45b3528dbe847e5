"""Mask a client's update: integers on a grid, the masks of all members, and sealed shares."""

import math
from dataclasses import dataclass, replace

from fedcli.client.local_training import Trained
from fedcli.client.session import Session
from fedcli.client.withheld import without_steps
from fedcli.codecs.base import Steps
from fedcli.errors import ConflictError, UsageError
from fedcli.formats.checkpoint import digest
from fedcli.formats.encoded import Parts, changes
from fedcli.formats.metadata import Metadata
from fedcli.formats.safetensors import layout_of
from fedcli.masking.keys import read_masking_key
from fedcli.masking.maskable import check_roles
from fedcli.masking.masks import Integers, mask
from fedcli.masking.noise import add_noise, norm_of, shortened
from fedcli.masking.pairwise import Agreement, Seeds
from fedcli.masking.quantise import Grid
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
from fedcli.plan.masked_noise import MaskedNoise
from fedcli.plan.secagg import check_maskable
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
        sizes = [array.size for name, array in session.base.values.items() if name not in away]
        check_limit(run, round_, sum(sizes))
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

    def withheld(self, metadata: Metadata) -> Metadata:
        """Return metadata without what tells of the client's data, and with what masks it."""
        encoding = mask_encoding(self.agreement.cohort, self.grid, self.noise)
        return replace(without_steps(metadata), roles={}, encoding=encoding)

    def masked(self, session: Session, trained: Trained) -> "MaskedUpdate":
        """Mask the change of all parameters that a client sends, in the order of its layout.

        Raises ``FedcliError`` for one that is NaN or infinite, unless it is to be shortened: then
        it counts as zero.
        """
        layout = layout_of({name: (a.dtype, a.shape) for name, a in trained.sent.items()})
        names = Parts.of(layout, session.base.roles).parameters
        integers = self._integers(session, changes(names, trained.sent, session.base.values, {}))
        made = mask(self.agreement, integers)
        return MaskedUpdate(self.agreement, made.seeds, replace(trained, sent={MASKED: made.words}))

    def _integers(self, session: Session, step: Steps) -> Integers:
        """Return a step on the grid, with noise if the plan has any, and tell its owner of it."""
        if self.noise is None:
            quantised = self.grid.quantise(step)
        else:
            quantised = shortened(self.grid, self.noise, step)
            self._say_length(session, step, self.noise.clip)
        if quantised.clipped:
            session.progress.say(
                f"client {self.agreement.member}: {quantised.clipped} of {quantised.values.size}"
                f" changes were beyond {self.grid.clip:g} and were cut off"
            )
        if self.noise is None:
            return quantised.values
        return add_noise(self.noise, self.agreement, quantised.values)

    def _say_length(self, session: Session, step: Steps, most: float) -> None:
        norm, who = norm_of(step), f"client {self.agreement.member}"
        if not math.isfinite(norm):
            session.progress.say(f"{who}: its step is NaN or infinite, and counts as zero")
        elif norm > most:
            session.progress.say(f"{who}: its step of norm {norm:.4g} was shortened to {most:g}")


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
