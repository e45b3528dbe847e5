"""How a run was made, as flat names and values: for tables of many runs, and for trackers."""

import json
import re
from typing import Any

from fedcli.reporting.model import RunReport

Setting = str | int | float | bool
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


def settings(run: RunReport) -> dict[str, Setting]:
    """Return the settings of a run by name, as used in its latest round; none that is unset.

    They are its data, model, scheme and the parameters of that, the options of training, the rule
    of aggregation and its options, and the seed. A list is JSON text.
    """
    last = next(iter(reversed(run.trained_rounds())), None)
    found: dict[str, Any] = {
        "dataset": run.dataset,
        "model": run.model,
        "scheme": run.scheme,
        **run.parameters,
        "clients": len(run.clients),
        **run.training,
        "rule": last and last.rule,
        "strategy": last and last.strategy,
        "reduce": last and last.reduce,
        "weighting": last and last.weighting,
        "server_optimizer": last and last.server_optimizer,
        **(last.options if last else {}),
        "seed": run.seed,
    }
    return {
        name: _flat(value)
        for name, value in found.items()
        if value is not None and _NAME.fullmatch(name)
    }


def _flat(value: Any) -> Setting:
    if isinstance(value, str | int | float):
        return value
    return json.dumps(value, sort_keys=True, default=str)
