"""How a round's updates were combined, in a few words."""

from collections.abc import Mapping
from typing import Any

from fedcli.formats.manifest import Manifest
from fedcli.strategies import STRATEGIES
from fedcli.strategies.reducers import REDUCERS
from fedcli.strategies.server_optimizers import SERVER_OPTIMIZERS
from fedcli.strategies.weightings import WEIGHTINGS

_ALWAYS = ("trim", "q")  # the name of the rule says too little without the value


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


def _value(value: Any) -> str:
    if value is True:
        return ""
    return f" {value:g}" if isinstance(value, float) else f" {value}"
