"""Section ``aggregate`` of the plan."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from fedcli.errors import UsageError
from fedcli.options import Given, Option, check, declared
from fedcli.plan.sections import section_of, updated

PARTS = ("reduce", "server_optimizer", "weighting")
SAMPLING = ("clients_per_round", "fraction")
LIMITS = ("max_norm", "max_examples")
_OF_EVERY_RULE = (*SAMPLING, *LIMITS)

_SERVER = "Server optimizer"
_SAMPLING = "Sampling of clients"
_LIMITS = "Limits of updates"
_OF_STRATEGY = "that of the strategy"


@dataclass(frozen=True)
class AggregatePlan:
    """How updates are combined, and how many clients take part in a round.

    What is None is left to the strategy: which options a rule has, with which defaults, its rows
    in ``fedcli.strategies`` say.
    """

    strategy: Annotated[
        str,
        Option(
            "A reducer, a weighting and a server optimizer by one name; `fedcli aggregate --list`"
            " prints them all.",
            "NAME",
        ),
    ] = "fedavg"
    reduce: Annotated[
        str | None,
        Option(
            "How the clients' models become one: a reducer, or `package.module:function`.",
            "NAME",
            unset=_OF_STRATEGY,
        ),
    ] = None
    weighting: Annotated[
        str | None,
        Option(
            "How much each client counts, such as `examples` (in proportion to its number of"
            " examples) or `uniform`.",
            "NAME",
            unset=_OF_STRATEGY,
        ),
    ] = None
    trim: Annotated[
        float | None,
        Option(
            "Share of the clients whose values are cut off at each end.",
            "SHARE",
            at_least=0,
            below=0.5,
            what="share",
        ),
    ] = None
    byzantine: Annotated[
        int | None,
        Option(
            "How many clients may be hostile.",
            "F",
            at_least=0,
            unset="as many as the rule tolerates",
        ),
    ] = None
    keep: Annotated[
        int | None,
        Option(
            "How many clients are averaged.", "M", at_least=1, unset="all but `--byzantine` of them"
        ),
    ] = None
    clip_norm: Annotated[
        float | None,
        Option("Largest norm of a client's step.", "C", above=0, unset="required by these rules"),
    ] = None
    iterations: Annotated[
        int | None, Option("Number of iterations; at most, for `rfa`.", "N", at_least=1)
    ] = None
    smoothing: Annotated[
        float | None,
        Option("Distances from the result count as at least this.", "NU", above=0),
    ] = None
    q: Annotated[
        float | None,
        Option(
            "0 weights all clients alike; more favours clients with a high loss.", "Q", at_least=0
        ),
    ] = None
    buffer: Annotated[
        int | None,
        Option(
            "Number of updates that completes a round.",
            "K",
            at_least=1,
            unset="half of the clients, rounded up",
        ),
    ] = None
    max_staleness: Annotated[
        int | None, Option("How many rounds late an update may be.", "S", at_least=0)
    ] = None
    server_optimizer: Annotated[
        str | None,
        Option("How the server steps towards the result.", "NAME", _SERVER, unset=_OF_STRATEGY),
    ] = None
    server_lr: Annotated[
        float | None, Option("Learning rate of the server optimizer.", "RATE", _SERVER, above=0)
    ] = None
    server_momentum: Annotated[
        float | None,
        Option("Momentum; 0.9 for `fedavgm`.", "M", _SERVER, at_least=0, below=1),
    ] = None
    beta1: Annotated[
        float | None, Option("Decay of the mean of the steps.", "B", _SERVER, at_least=0, below=1)
    ] = None
    beta2: Annotated[
        float | None,
        Option("Decay of the mean of the squared steps.", "B", _SERVER, at_least=0, below=1),
    ] = None
    tau: Annotated[float | None, Option("Added to the denominator.", "T", _SERVER, above=0)] = None
    bias_correction: Annotated[
        bool | None,
        Option("Correct means that start from zero; Reddi et al. do not.", panel=_SERVER),
    ] = None
    clients_per_round: Annotated[
        int | None,
        Option("Number of clients drawn for each round.", "N", _SAMPLING, at_least=1, unset="all"),
    ] = None
    fraction: Annotated[
        float | None,
        Option(
            "The same as a share of the clients, above 0 and at most 1; at least one takes part.",
            "C",
            _SAMPLING,
            above=0,
            at_most=1,
            what="share",
            unset="`1`",
        ),
    ] = None
    max_norm: Annotated[
        float | None,
        Option(
            "Leave out updates that move the parameters by a larger Euclidean norm; costs a pass"
            " over the updates.",
            "NORM",
            _LIMITS,
            above=0,
        ),
    ] = None
    max_examples: Annotated[
        int | None,
        Option(
            "Leave out updates that claim to be trained on more examples.",
            "N",
            _LIMITS,
            at_least=1,
            unset="`1e9`",
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range (``UsageError``)."""
        check(self)
        if self.clients_per_round is not None and self.fraction is not None:
            raise UsageError("--clients-per-round and --fraction: give one of them")

    @classmethod
    def from_mapping(cls, values: Any, origin: str) -> Self:
        """Build it from a section of a plan file. Raises ``UsageError`` that names ``origin``."""
        return section_of(cls, values, origin)

    @property
    def parts(self) -> dict[str, str]:
        """The parts of the rule that are not left to the strategy."""
        return {name: getattr(self, name) for name in PARTS if getattr(self, name) is not None}

    @property
    def limits(self) -> dict[str, float]:
        """What an update must not exceed."""
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}

    def with_options(self, typed: Given) -> "AggregatePlan":
        """Return the plan with what was typed (not None) in place of its own.

        Another strategy starts from its own defaults; another way to say how many clients take
        part replaces the one before. Raises ``UsageError``.
        """
        given = {key: value for key, value in typed.items() if value is not None}
        kept = self
        if given.keys() & set(SAMPLING):
            kept = replace(kept, clients_per_round=None, fraction=None)
        if given.get("strategy", self.strategy) != self.strategy:
            kept = AggregatePlan(**{name: getattr(kept, name) for name in _OF_EVERY_RULE})
        return updated(kept, given)


SERVER_OPTIONS = tuple(
    name for name, one in declared(AggregatePlan).items() if one.option.panel == _SERVER
)
