"""Section ``aggregate`` of the plan."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fedcli.errors import UsageError
from fedcli.options import Given, check, declared, option
from fedcli.plan.choices import encodings
from fedcli.plan.client_level import (
    BUDGET,
    CLIENT_LEVEL,
    CLIP_LR,
    COUNT_NOISE,
    FIRST_CLIP,
    RELATIONS,
    check_client_level,
)
from fedcli.plan.sections import over_file, updated

if TYPE_CHECKING:  # codecs need numpy, which --help does without
    from fedcli.codecs import Codec
    from fedcli.privacy import PrivacyLimit

PARTS = ("reduce", "server_optimizer", "weighting")
SAMPLING = ("clients_per_round", "fraction")
LIMITS = ("max_norm", "max_examples")
DOWNLINK = ("encode_global", "feedback_global")
_OF_EVERY_RULE = (*SAMPLING, *LIMITS, *DOWNLINK, *CLIENT_LEVEL, *BUDGET)

_SERVER = "Server optimizer"
_SAMPLING = "Sampling of clients"
_LIMITS = "Limits of updates"
_DOWNLINK = "Encoding of the global model"
_CLIENT_LEVEL = "Privacy of clients"
_OF_STRATEGY = "that of the strategy"


@dataclass(frozen=True)
class AggregatePlan:
    """How updates are combined, and how many clients take part in a round.

    None leaves a value to the strategy; the rows in ``fedcli.strategies`` define the options and
    defaults of each rule.
    """

    strategy: str = option(
        "fedavg",
        "A reducer, a weighting and a server optimizer by one name; `fedcli aggregate --list`"
        " prints them all.",
        "NAME",
        unset="`fedavg`, or that of the algorithm",
    )
    reduce: str | None = option(
        None,
        "How the clients' models become one: a reducer, or `package.module:function`.",
        "NAME",
        unset=_OF_STRATEGY,
    )
    weighting: str | None = option(
        None,
        "How much each client counts, such as `examples` (in proportion to its number of"
        " examples) or `uniform`.",
        "NAME",
        unset=_OF_STRATEGY,
    )
    trim: float | None = option(
        None,
        "Share of the clients whose values are cut off at each end.",
        "SHARE",
        at_least=0,
        below=0.5,
        what="share",
    )
    byzantine: int | None = option(
        None,
        "How many clients may be hostile.",
        "F",
        at_least=0,
        unset="as many as the rule tolerates",
    )
    keep: int | None = option(
        None,
        "How many clients are averaged.",
        "M",
        at_least=1,
        unset="all but `--byzantine` of them",
    )
    clip_norm: float | None = option(
        None, "Largest norm of a client's step.", "C", above=0, unset="required by these rules"
    )
    iterations: int | None = option(
        None, "Number of iterations; at most, for `rfa`.", "N", at_least=1
    )
    smoothing: float | None = option(
        None, "Distances from the result count as at least this.", "NU", above=0
    )
    q: float | None = option(
        None, "0 weights all clients alike; more favours clients with a high loss.", "Q", at_least=0
    )
    buffer: int | None = option(
        None,
        "Number of updates that completes a round.",
        "K",
        at_least=1,
        unset="half of the clients, rounded up",
    )
    max_staleness: int | None = option(
        None, "How many rounds late an update may be.", "S", at_least=0
    )
    server_optimizer: str | None = option(
        None, "How the server steps towards the result.", "NAME", _SERVER, unset=_OF_STRATEGY
    )
    server_lr: float | None = option(
        None,
        "Learning rate of the server optimizer.",
        "RATE",
        _SERVER,
        above=0,
        aliases=("--server-learning-rate",),
    )
    server_momentum: float | None = option(
        None, "Momentum; 0.9 for `fedavgm`.", "M", _SERVER, at_least=0, below=1
    )
    beta1: float | None = option(
        None, "Decay of the mean of the steps.", "B", _SERVER, at_least=0, below=1
    )
    beta2: float | None = option(
        None, "Decay of the mean of the squared steps.", "B", _SERVER, at_least=0, below=1
    )
    tau: float | None = option(None, "Added to the denominator.", "T", _SERVER, above=0)
    bias_correction: bool | None = option(
        None, "Correct means that start from zero; Reddi et al. do not.", panel=_SERVER
    )
    clients_per_round: int | None = option(
        None, "Number of clients drawn for each round.", "N", _SAMPLING, at_least=1, unset="all"
    )
    fraction: float | None = option(
        None,
        "The same as a share of the clients, above 0 and at most 1; at least one takes part.",
        "C",
        _SAMPLING,
        above=0,
        at_most=1,
        what="share",
        unset="`1`",
    )
    max_norm: float | None = option(
        None,
        "Leave out updates that move the parameters by a larger Euclidean norm; costs a pass"
        " over the updates.",
        "NORM",
        _LIMITS,
        above=0,
    )
    max_examples: int | None = option(
        None,
        "Leave out updates that claim to be trained on more examples; claims up to it count"
        " whatever the others claim.",
        "N",
        _LIMITS,
        at_least=1,
        unset="`1e9`",
    )
    encode_global: str | None = option(
        None,
        "Encode the step to the next global model, which clients then rebuild: `float16`, `int8`,"
        " `round=F`, `topk=F`, `randk=F` or `sign`.",
        "SPEC",
        _DOWNLINK,
        names=encodings,
        unset="`float32`: the model as it is",
    )
    feedback_global: float | None = option(
        None,
        "Share of what the encoding loses that is added to the next step.",
        "LAMBDA",
        _DOWNLINK,
        at_least=0,
        at_most=1,
        what="share",
        unset="`0`",
    )

    update_clip: float | None = option(
        None,
        "Shorten each client's step to this norm C; with `--adaptive-clip`, in the first round.",
        "C",
        _CLIENT_LEVEL,
        at_least=1e-30,
        at_most=1e30,
        unset=f"`{FIRST_CLIP}` with `--adaptive-clip`; else must be given with noise",
    )
    update_noise: float | None = option(
        None,
        "Protect each client: add noise of the standard deviation SIGMA·C to the sum of steps,"
        " from `--noise-key`.",
        "SIGMA",
        _CLIENT_LEVEL,
        at_least=0,
        at_most=1e6,
    )
    relation: str | None = option(
        None,
        "What is hard to tell: that a client's step is in the sum (`add-remove`), or that it is"
        " another one (`replace`).",
        "NAME",
        _CLIENT_LEVEL,
        choices=RELATIONS,
        unset=f"`{RELATIONS[0]}`",
    )
    update_divisor: float | None = option(
        None,
        "Divide the noisy sum by this constant, however many updates came.",
        "D",
        _CLIENT_LEVEL,
        above=0,
        at_most=1e9,
        unset="the number of clients that a round asks for",
    )
    adaptive_clip: float | None = option(
        None,
        "Move C from round to round to where this share of the clients' steps is shorter.",
        "GAMMA",
        _CLIENT_LEVEL,
        above=0,
        below=1,
        what="share",
    )
    clip_lr: float | None = option(
        None,
        "How fast C moves: C ← C·exp(−RATE·(share − GAMMA)).",
        "RATE",
        _CLIENT_LEVEL,
        above=0,
        unset=f"`{CLIP_LR}`",
    )
    count_noise: float | None = option(
        None,
        "Standard deviation of the noise on the number of shorter steps.",
        "SIGMA",
        _CLIENT_LEVEL,
        at_least=0,
        at_most=1e6,
        unset=COUNT_NOISE,
    )
    update_max_epsilon: float | None = option(
        None,
        "Refuse a round after which the sums over clients would have spent more than E.",
        "E",
        _CLIENT_LEVEL,
        above=0,
    )
    update_delta: float | None = option(
        None,
        "The δ of that ε; below 1 / the number of clients.",
        "D",
        _CLIENT_LEVEL,
        above=0,
        below=1,
        unset="must be given with `--update-max-epsilon`",
    )

    def __post_init__(self) -> None:
        """Normalise the encoding. Raise ``UsageError`` for values that cannot be used."""
        check(self)
        check_client_level(self)
        self._settle_downlink()
        if self.clients_per_round is not None and self.fraction is not None:
            raise UsageError("--clients-per-round and --fraction: give one of them")

    def _settle_downlink(self) -> None:
        """Leave out what has no effect, so that equal plans are written alike."""
        codec = self.codec
        if codec is None and self.feedback_global:
            raise UsageError("--feedback-global: belongs to --encode-global")
        object.__setattr__(self, "encode_global", None if codec is None else str(codec))
        object.__setattr__(self, "feedback_global", self.feedback_global or None)

    @property
    def codec(self) -> "Codec | None":
        """How the step to the next global model is encoded; None if it is not."""
        if self.encode_global is None:
            return None
        from fedcli.codecs import parse_codec

        return parse_codec(self.encode_global, "--encode-global")

    @property
    def downlink(self) -> dict[str, Any]:
        """How the step to the next global model is encoded; empty if it is not."""
        return {name: getattr(self, name) for name in DOWNLINK if getattr(self, name) is not None}

    @property
    def client_level(self) -> dict[str, Any]:
        """What protects the clients; empty if nothing does."""
        return {k: getattr(self, k) for k in CLIENT_LEVEL if getattr(self, k) is not None}

    @property
    def privacy_limit(self) -> "PrivacyLimit | None":
        """What the sums over clients may spend; None without a limit."""
        from fedcli.privacy import PrivacyLimit

        if self.update_max_epsilon is None or self.update_delta is None:
            return None
        return PrivacyLimit(self.update_max_epsilon, self.update_delta, "--update-max-epsilon")

    @property
    def parts(self) -> dict[str, str]:
        """The parts of the rule that the plan sets itself."""
        return {name: getattr(self, name) for name in PARTS if getattr(self, name) is not None}

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set for updates."""
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}

    def with_options(self, typed: Given) -> "AggregatePlan":
        """Return the plan updated with the typed values that are not None.

        Another strategy starts from its own defaults; ``clients_per_round`` and ``fraction``
        replace each other. Raises ``UsageError``.
        """
        given = {key: value for key, value in typed.items() if value is not None}
        kept = self
        if given.keys() & set(SAMPLING):
            kept = replace(kept, clients_per_round=None, fraction=None)
        if given.get("strategy", self.strategy) != self.strategy:
            kept = AggregatePlan(**{name: getattr(kept, name) for name in _OF_EVERY_RULE})
        return updated(kept, given)


def aggregation_over_file(file: Given, typed: Given) -> dict[str, Any]:
    """Return typed options of aggregation over those of a file, without those they replace."""
    of_rule = declared(AggregatePlan).keys() - {"strategy", *_OF_EVERY_RULE}
    return over_file(file, typed, [SAMPLING], {"strategy": of_rule})


SERVER_OPTIONS = tuple(
    name for name, one in declared(AggregatePlan).items() if one.option.panel == _SERVER
)
