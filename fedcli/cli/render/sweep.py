"""What ``fedcli sweep`` shows: where each run stands."""

import shlex
from typing import Any

from rich.console import RenderableType

from fedcli.cli.render.tables import figures_table
from fedcli.steps.sweep import SweepResult, SweepRun

_SHOWN = 60  # runs; of more, those that are done are counted


def render(result: SweepResult) -> list[RenderableType]:
    """Draw the table, and how to compare the runs."""
    done = sum(run.standing == "done" for run in result.runs)
    count = f"{done} of {len(result.runs)} runs done"
    then = [f"next: fedcli report {shlex.quote(str(result.out))}/*"] if done else []
    return [table(result), count, *then]


def table(result: SweepResult) -> RenderableType:
    """Draw one row per run."""
    rows = figures_table(["run", "state"], [])
    shown = result.runs
    if len(shown) > _SHOWN:
        shown = tuple(run for run in shown if run.standing != "done")
    for run in shown:
        rows.add_row(run.name, _state(run))
    return rows


def _state(run: SweepRun) -> str:
    if run.standing == "failed":
        return f"failed: {run.error}"
    if run.standing == "part-done":
        return f"round {run.complete} of {run.rounds}"
    if run.stopped is not None:
        return f"done: stopped after round {run.complete}"
    return run.standing


def failure(result: SweepResult) -> dict[str, Any]:
    """Return the error of a sweep with failed runs, as in JSON: each is named."""
    named = "; ".join(f"{run.name}: {run.error}" for run in result.failed)
    count = len(result.failed)
    message = f"{count} of {len(result.runs)} runs failed: {named}"
    hints = dict.fromkeys(run.hint for run in result.failed if run.hint)
    return {"kind": "failed", "message": message, "hint": next(iter(hints), None)}
