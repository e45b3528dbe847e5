"""What ``fedcli plan --privacy`` shows."""

from rich.console import RenderableType

from fedcli.cli.render.tables import figures_table
from fedcli.plan.forecast import ForecastRow, PrivacyForecast

_MOST = 20  # rows; --json has all of them


def render(found: PrivacyForecast) -> list[RenderableType]:
    """Draw ε after some numbers of rounds, and the noise that it takes."""
    rounds = [f"ε, {n} round{'s' * (n > 1)}" for n in found.rounds]
    table = figures_table(["privacy of"], ["q", "sums", "σ", *rounds])
    for row in found.rows[:_MOST]:
        epsilon = ("no bound" if one is None else f"{one:.3f}" for one in row.epsilon)
        table.add_row(_whose(row), f"{row.q:.4g}", str(row.sums), f"{row.sigma:g}", *epsilon)
    more = len(found.rows) - _MOST
    left = [f"and {more} more; --json lists all"] if more > 0 else []
    chosen = "" if found.target is None else f"; σ is chosen for a target of {found.target:g}"
    return [table, *left, f"at δ = {found.delta:g}; sums: of one round{chosen}"]


def _whose(row: ForecastRow) -> str:
    return "clients" if row.examples is None else f"{row.examples} examples"
