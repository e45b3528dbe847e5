"""How far a masked round has come: open, closed, or ready to be opened."""

from dataclasses import dataclass

from fedcli.errors import BadInputError
from fedcli.masking.answers import read_answers
from fedcli.masking.rounds import cohort_of, read_survivors
from fedcli.run import Run
from fedcli.run.round import Round


@dataclass(frozen=True)
class MaskedProgress:
    """A masked round: who is in the signed list, who has answered it, and who has not.

    ``survivors`` is None before the round is closed. ``needed`` is t.
    """

    survivors: tuple[str, ...] | None
    answered: tuple[str, ...]
    waiting: tuple[str, ...]
    needed: int

    @property
    def is_ready(self) -> bool:
        """Whether the sum can be opened."""
        return self.survivors is not None and len(self.answered) >= self.needed


def masked_progress(run: Run, round_: Round) -> MaskedProgress | None:
    """Return how far a round has come; None in a run whose updates are not masked.

    A list that is not valid counts as none: whoever uses it says why.
    """
    if run.info.plan.secagg is None:
        return None
    cohort = cohort_of(run, round_)
    if not round_.survivors.exists():
        return MaskedProgress(None, (), (), cohort.threshold)
    try:
        survivors = read_survivors(run, round_)
    except BadInputError:
        return MaskedProgress(None, (), (), cohort.threshold)
    answers, _ = read_answers(run, round_, cohort, survivors)
    answered = tuple(answer.member for answer in answers)
    waiting = tuple(member for member in cohort.members if member not in answered)
    return MaskedProgress(tuple(survivors.survivors), answered, waiting, cohort.threshold)
