"""What differential privacy at the level of clients asks of a plan."""

from typing import TYPE_CHECKING

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
FIRST_CLIP = 0.1  # Andrew et al. 2021, section 3
COUNT_NOISE = "D / 20, or SIGMA of `--update-noise` if that is more"
_OF_ADAPTIVE = ("clip_lr", "count_noise")
_LIMITS = {
    "max_norm": "tells which steps are longer; --update-clip shortens them",
    "max_examples": "tells of the number of examples, by which nothing is weighted",
}


def check_client_level(plan: "AggregatePlan") -> None:
    """Raise ``UsageError`` for settings that hide no client, or that belong to no such plan."""
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
    _check_count_noise(plan.update_noise, plan.count_noise)
    for name, why in _LIMITS.items():
        if getattr(plan, name) is not None:
            raise UsageError(f"{option_of(name)}: {why}, and --update-noise hides clients")


def _check_count_noise(noise: float, of_count: float | None) -> None:
    if of_count is None or (noise == 0 and of_count == 0):
        return
    if not noise or 2 * of_count <= noise:
        raise UsageError(
            f"--count-noise: expected more than half of --update-noise {noise:g} (0 with 0), found"
            f" {of_count:g}; the noise on the sum makes up for what the count spends"
        )


def check_hidden(rule: "Rule") -> None:
    """Raise ``UsageError`` for a rule that would use clients' updates in a way without noise."""
    for option, wrong, why in (
        (
            "--reduce",
            rule.reduce != "mean",
            f"{rule.reduce} is no sum; of a mean, a client moves C / D at most",
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
