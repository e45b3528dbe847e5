"""How a run was made, as flat names and values: for tables of many runs, and for trackers."""

import json
import re
from typing import Any

from fedcli.reporting.run_report import RunReport

Setting = str | int | float | bool
_LONG = ("classes", "content", "departures")  # they describe the data, or single clients
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


def settings(run: RunReport) -> dict[str, Setting]:
    """Return the settings of a run by name, as used in its latest round; none that is unset.

    They are the options of its recipe, the rule of aggregation in words, and the seeds. A list is
    JSON text.
    """
    last = next(iter(reversed(run.trained_rounds())), None)
    found: dict[str, Any] = {
        **run.recipe.options,
        "clients": len(run.clients),
        "rule": last and last.rule,
        **run.recipe.seeds,
    }
    return {
        name: _flat(value)
        for name, value in found.items()
        if value is not None and name not in _LONG and _NAME.fullmatch(name)
    }


def _flat(value: Any) -> Setting:
    if isinstance(value, str | int | float):
        return value
    return json.dumps(value, sort_keys=True, default=str)
