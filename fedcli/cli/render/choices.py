"""``--list``: what can be chosen by name, with its options, their defaults and its source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fedcli.algorithms import ALGORITHMS
from fedcli.cli.render.output import Output
from fedcli.partitioning.partitioners import PARTITIONERS
from fedcli.plan import AggregatePlan
from fedcli.plan.choices import AUGMENTATIONS, OPTIMIZERS
from fedcli.plan.rule import resolve
from fedcli.plan.schedules import SCHEDULES
from fedcli.strategies import STRATEGIES, Rule
from fedcli.strategies.reducers import REDUCERS
from fedcli.strategies.server_optimizers import SERVER_OPTIMIZERS
from fedcli.strategies.weightings import WEIGHTINGS

_WIDTH = 80  # characters
_SOURCE = 23  # of them for the column of sources


@dataclass(frozen=True)
class Entry:
    """One thing that can be chosen by name.

    ``options`` are its own, with their defaults (None without one); ``facts`` are further keys of
    its JSON. The terminal shows ``lines`` below the summary, or the options if there are none.
    """

    summary: str
    source: str
    options: Mapping[str, Any]
    facts: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints of it."""
        known = {"summary": self.summary, "source": self.source}
        return {**known, **self.facts, "options": self.options}

    def as_text(self) -> str:
        """Return what the terminal shows of it."""
        return "\n".join([self.summary, *(self.lines or options_in_words(self.options))])


@dataclass(frozen=True)
class OptionValues:
    """The values that ``option`` takes, by name; the terminal leaves out the ``hidden`` ones."""

    option: str
    entries: Mapping[str, Entry]
    hidden: tuple[str, ...] = ()

    @property
    def shown(self) -> dict[str, Entry]:
        """What the terminal shows."""
        return {name: entry for name, entry in self.entries.items() if name not in self.hidden}


@dataclass(frozen=True)
class Catalogue:
    """What a command lists, by the keys of its JSON, and the line below the tables."""

    listings: Mapping[str, OptionValues]
    note: str


def show(catalogue: Catalogue, output: Output) -> None:
    """Print a catalogue, as tables or as JSON."""
    listed = {
        key: {name: entry.as_json() for name, entry in listing.entries.items()}
        for key, listing in catalogue.listings.items()
    }
    output.result(listed, lambda _: list(_tables(catalogue)))


def _tables(catalogue: Catalogue) -> Iterator[RenderableType]:
    listings = catalogue.listings.values()
    width = max(len(name) for listing in listings for name in (listing.option, *listing.shown))
    for listing in listings:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        table.add_column(listing.option, no_wrap=True, width=width)
        table.add_column("what it is", width=_WIDTH - width - _SOURCE - 4)
        table.add_column("source", width=_SOURCE)
        for name, entry in listing.shown.items():
            table.add_row(name, entry.as_text(), entry.source)
        yield table
        yield ""
    yield Text(catalogue.note)


def options_in_words(options: Mapping[str, Any]) -> list[str]:
    """Return a line with the options as they are typed and their defaults, or no line."""
    return [", ".join(_option(*option) for option in options.items())] if options else []


def _option(name: str, default: Any) -> str:
    words = f"--{name.replace('_', '-')}"
    if default is None or default is False or default == ():
        return words
    return f"{words} {default:g}" if isinstance(default, int | float) else f"{words} {default}"


def _entries(rows: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the rows of a registry, each with a summary, a source and perhaps options."""
    return {
        name: Entry(row.summary, row.source, getattr(row, "options", {}))
        for name, row in rows.items()
    }


def schemes() -> Catalogue:
    """Return the schemes that split a data set between clients."""
    note = "--clients 3 for all but labels, --sizes and natural, which say it themselves"
    return Catalogue({"schemes": OptionValues("--scheme", _entries(PARTITIONERS))}, note)


def algorithms() -> Catalogue:
    """Return the local algorithms, and what else training chooses by name."""
    return Catalogue(
        {
            "algorithms": OptionValues("--algorithm", dict(_algorithms())),
            "optimizers": OptionValues("--optimizer", _entries(OPTIMIZERS)),
            "schedules": OptionValues("--lr-schedule", dict(_schedules())),
            "augmentations": OptionValues("--augment", _entries(AUGMENTATIONS)),
        },
        "With every algorithm that has no such term: --proximal MU",
    )


def _algorithms() -> Iterator[tuple[str, Entry]]:
    for name, algorithm in ALGORITHMS.items():
        row = algorithm()
        lines = options_in_words(row.options)
        if row.strategy != "fedavg":
            lines.append(f"aggregated with --strategy {row.strategy}")
        facts = {"strategy": row.strategy}
        yield name, Entry(row.summary, row.source, row.options, facts, tuple(lines))


def _schedules() -> Iterator[tuple[str, Entry]]:
    for name, row in SCHEDULES.items():
        yield name, Entry(row.summary, row.source, dict.fromkeys(row.needs))


def rules() -> Catalogue:
    """Return the strategies of aggregation, and the parts that they are made of."""
    by_reducer = tuple(name for name in STRATEGIES if name in REDUCERS)
    return Catalogue(
        {
            "strategies": OptionValues("--strategy", dict(_strategies()), by_reducer),
            "reducers": OptionValues("--reduce", _entries(REDUCERS)),
            "server_optimizers": OptionValues("--server-optimizer", _entries(SERVER_OPTIMIZERS)),
            "weightings": OptionValues("--weighting", _entries(WEIGHTINGS)),
        },
        f"Strategies by the name of their reducer: {', '.join(by_reducer)}",
    )


def _strategies() -> Iterator[tuple[str, Entry]]:
    for name, row in STRATEGIES.items():
        rule = resolve(AggregatePlan(strategy=name))
        facts = {
            "reduce": rule.reduce,
            "server_optimizer": rule.server_optimizer,
            "weighting": rule.weighting,
        }
        line = "= " + ", ".join([*facts.values(), *options_in_words(_own_options(rule))])
        yield name, Entry(row.summary, row.source, rule.options, facts, (line,))


def _own_options(rule: Rule) -> dict[str, Any]:
    """Return the options in which a strategy differs from the defaults of its parts."""
    defaults = {**rule.reducer.options, **rule.optimizer.options, **rule.weigher.options}
    return {name: value for name, value in rule.options.items() if value != defaults[name]}
