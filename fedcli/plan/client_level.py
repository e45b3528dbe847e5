"""What differential privacy at the level of clients asks of a plan."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from fedcli.errors import UsageError
from fedcli.options import option_of

if TYPE_CHECKING:
    from fedcli.plan.aggregate import AggregatePlan
    from fedcli.strategies import Rule

CLIENT_LEVEL = (
    "update_clip",
    "update_noise",
    "relation",
    "update_divisor",
    "adaptive_clip",
    "clip_lr",
    "count_noise",
)
BUDGET = ("update_max_epsilon", "update_delta")
RELATIONS = ("add-remove", "replace")
FIRST_CLIP, CLIP_LR = 0.1, 0.2  # Andrew et al. 2021, section 3
_COUNT_SHARE = 20  # the same
_LEAST_NOISE = 1e-3  # ε of one round is a million then
COUNT_NOISE = "D / 20, or SIGMA of `--update-noise` if that is more"
_OF_ADAPTIVE = ("clip_lr", "count_noise")
_LIMITS = {
    "max_norm": "tells which steps are longer; --update-clip shortens them",
    "max_examples": "tells of the number of examples, by which nothing is weighted",
}


def check_client_level(plan: "AggregatePlan") -> None:
    """Raise ``UsageError`` for settings that protect no client, or that belong to no such plan."""
    if plan.update_noise is None:
        for name in (*CLIENT_LEVEL, *BUDGET):
            if getattr(plan, name) is not None:
                raise UsageError(
                    f"{option_of(name)}: needs --update-noise",
                    hint="with 0, steps are shortened and get no noise, which gives no privacy",
                )
        return
    for name in _OF_ADAPTIVE:
        if getattr(plan, name) is not None and plan.adaptive_clip is None:
            raise UsageError(f"{option_of(name)}: belongs to --adaptive-clip")
    if plan.update_noise and plan.update_clip is None and plan.adaptive_clip is None:
        raise UsageError("--update-noise: needs --update-clip, which the noise is a multiple of")
    if (plan.update_max_epsilon is None) != (plan.update_delta is None):
        raise UsageError("--update-max-epsilon and --update-delta: give both of them")
    if 0 < plan.update_noise < _LEAST_NOISE:
        raise UsageError(
            f"--update-noise: expected 0, or at least {_LEAST_NOISE:g}, found {plan.update_noise}"
        )
    _check_count_noise(plan.update_noise, plan.count_noise)
    for name, why in _LIMITS.items():
        if getattr(plan, name) is not None:
            raise UsageError(f"{option_of(name)}: {why}, and --update-noise protects clients")


def _check_count_noise(noise: float, of_count: float | None) -> None:
    if of_count is None or (noise == 0 and of_count == 0):
        return
    if not noise or 2 * of_count <= noise:
        raise UsageError(
            f"--count-noise: expected more than half of --update-noise {noise:g} (0 with 0), found"
            f" {of_count:g}; the noise on the sum makes up for what the count spends"
        )


def check_private_rule(rule: "Rule") -> None:
    """Raise ``UsageError`` for a rule that would use clients' updates in a way without noise."""
    for option, wrong, why in (
        (
            "--reduce",
            rule.reduce != "mean",
            f"{rule.reduce} is not a sum; in a mean, a client moves at most C / D",
        ),
        (
            "--weighting",
            rule.weighting != "uniform",
            f"with {rule.weighting}, weights tell of the clients; uniform is a constant",
        ),
        (
            "--server-optimizer",
            "control" in rule.optimizer.start(rule.options),
            f"{rule.server_optimizer} adds up control variates, which get no noise",
        ),
    ):
        if wrong:
            raise UsageError(f"{option}: is impossible with --update-noise: {why}")


@dataclass(frozen=True)
class ClientPrivacy:
    """How a round protects its clients: the options of a plan, settled.

    ``update_clip`` is None if steps have no bound, and that of the first round if it is adaptive;
    ``adaptive_clip`` is None if it is not.
    """

    update_clip: float | None
    update_noise: float
    relation: str
    update_divisor: float
    adaptive_clip: float | None = None
    clip_lr: float | None = None
    count_noise: float | None = None

    @classmethod
    def of(cls, plan: "AggregatePlan", clients: int) -> "ClientPrivacy | None":
        """Settle the options of rounds that ask for so many clients (0: unknown); None for none.

        Raises ``UsageError`` if nothing says what the sum is divided by.
        """
        if plan.update_noise is None:
            return None
        divisor = plan.update_divisor or float(clients)
        if not divisor:
            raise UsageError(
                "--update-divisor: say by which constant the sum of clients is divided; this run"
                " has no list of them"
            )
        found = cls(plan.update_clip, plan.update_noise, plan.relation or RELATIONS[0], divisor)
        return found if plan.adaptive_clip is None else found._adaptive(plan)

    def _adaptive(self, plan: "AggregatePlan") -> "ClientPrivacy":
        noise, of_count = self.update_noise, plan.count_noise
        if of_count is None:
            of_count = max(noise, self.update_divisor / _COUNT_SHARE) if noise else 0.0
        return replace(
            self,
            update_clip=self.update_clip or FIRST_CLIP,
            adaptive_clip=plan.adaptive_clip,
            clip_lr=plan.clip_lr or CLIP_LR,
            count_noise=of_count,
        )

    @property
    def options(self) -> dict[str, Any]:
        """The options by their names in ``AggregatePlan``, without those that have no effect."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def adds_noise(self) -> bool:
        """Whether there is noise, and so anything that files must not tell."""
        return self.update_noise > 0


def settled_options(plan: "AggregatePlan", clients: int) -> dict[str, Any]:
    """Return the options that protect clients in rounds of so many, settled as manifests have them.

    Empty if nothing does, or if nothing says what the sum is divided by.
    """
    if plan.update_divisor is None and not clients:
        return {}
    found = ClientPrivacy.of(plan, clients)
    return {} if found is None else found.options
