"""How a round's updates were combined, in a few words."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedcli.errors import UsageError
from fedcli.formats.manifest import Manifest
from fedcli.options import option_of
from fedcli.plan import AggregatePlan
from fedcli.plan.aggregate import PARTS
from fedcli.plan.client_level import CLIENT_LEVEL, settled_options
from fedcli.plan.rule import resolve
from fedcli.reporting.run_report import Note, RoundReport
from fedcli.reporting.training import value_named
from fedcli.reporting.words import rounds_named
from fedcli.run.sampling import sample_size
from fedcli.strategies import STRATEGIES
from fedcli.strategies.reducers import REDUCERS
from fedcli.strategies.server_optimizers import SERVER_OPTIMIZERS
from fedcli.strategies.weightings import WEIGHTINGS
from fedcli.text import printable

_NOTES = 10
_MOST_TEXT = 40  # characters of a value, as a manifest may say anything
_ALWAYS = ("trim", "q")  # the name of the rule says too little without the value
_OF_CLIENT_LEVEL = ("update_clip", "update_noise", "adaptive_clip")


def rule_label(manifest: Manifest) -> str:
    """Return ``fedavg``, ``trimmed-mean (trim 0.2)`` or ``median + adam (server lr 0.1)``.

    A strategy keeps its name while its parts are its own. Options follow if they differ from
    their defaults.
    """
    strategy = STRATEGIES.get(manifest.strategy)
    parts = (manifest.reduce, manifest.server_optimizer)
    defaults = _defaults(manifest)
    if strategy is None:
        name = manifest.strategy
    elif parts == (strategy.reduce, strategy.server_optimizer):
        name = manifest.strategy
        defaults |= strategy.options
    elif manifest.server_optimizer == "sgd":
        name = manifest.reduce
    else:
        name = f"{manifest.reduce} + {manifest.server_optimizer}"
    shown = _shown(manifest.options, defaults)
    hidden = {k: v for k, v in manifest.client_level.items() if k in _OF_CLIENT_LEVEL}
    shown += _shown(hidden, {})
    return f"{name} ({', '.join(shown)})" if shown else name


def _defaults(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in (
        REDUCERS.get(manifest.reduce),
        SERVER_OPTIMIZERS.get(manifest.server_optimizer),
        WEIGHTINGS.get(manifest.weighting),
    ):
        found |= part.options if part else {}
    return found


def _shown(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    return [
        name.replace("_", " ") + _value(value)
        for name, value in sorted(options.items())
        if name in _ALWAYS or value != defaults.get(name)
    ]


def rule_notes(
    plan: AggregatePlan, clients: Sequence[str], rounds: Sequence[RoundReport]
) -> list[Note]:
    """Return a note on each way in which rounds were combined otherwise than the plan says.

    ``clients`` are those of the run. A plan whose reducer is a function of the user's is compared
    by its names alone: it is not imported.
    """
    found: dict[str, list[int]] = {}
    for round_ in rounds:
        if round_.strategy and (text := _left_plan(plan, clients, round_)):
            found.setdefault(text, []).append(round_.number)
    notes = [
        Note(f"{rounds_named(numbers)} left the plan: {text}") for text, numbers in found.items()
    ]
    if more := notes[_NOTES:]:
        notes[_NOTES:] = [Note(f"{len(more)} more departures of rounds are in --json")]
    return notes


def _left_plan(plan: AggregatePlan, clients: Sequence[str], round_: RoundReport) -> str:
    planned = planned_rule(plan)
    used = {"strategy": round_.strategy, **{part: getattr(round_, part) for part in PARTS}}
    used |= {name: round_.options.get(name) for name in planned if name in round_.options}
    if used["strategy"] != planned["strategy"]:
        used = {"strategy": used["strategy"]}  # its parts and options follow
    planned |= settled_options(plan, sample_size(plan, len(clients)))
    used |= {name: round_.client_level.get(name) for name in CLIENT_LEVEL if name in planned}
    used |= round_.client_level
    different = [
        f"{option_of(name)} {_shortened(value)} (plan: {value_named(planned.get(name))})"
        for name, value in used.items()
        if value != planned.get(name) and (planned.get(name) is not None or name in CLIENT_LEVEL)
    ]
    return ", ".join([*different, *_sampling(plan, clients, round_)])


def _shortened(value: Any) -> str:
    return printable(value_named(value), _MOST_TEXT)


def planned_rule(plan: AggregatePlan) -> dict[str, Any]:
    """Return the parts and the options of the plan's rule; None where it does not fix them."""
    try:
        rule = resolve(plan)
    except UsageError:
        return {"strategy": plan.strategy, **{part: getattr(plan, part) for part in PARTS}}
    return {
        "strategy": rule.strategy,
        "reduce": rule.reduce,
        "server_optimizer": rule.server_optimizer,
        "weighting": rule.weighting,
        **rule.options,
    }


def _sampling(plan: AggregatePlan, clients: Sequence[str], round_: RoundReport) -> list[str]:
    """Say if another number of clients was drawn than the plan says."""
    if not clients:
        return []
    drawn = len(clients) if round_.sampled is None else len(round_.sampled)
    expected = sample_size(plan, len(clients))
    return [] if drawn == expected else [f"{drawn} clients drawn (plan: {expected})"]


def _value(value: Any) -> str:
    if value is True:
        return ""
    return f" {value:g}" if isinstance(value, float) else f" {value}"
