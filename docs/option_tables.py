"""Write the option tables of docs/commands, and the catalogue of completion, from the declarations.

    python docs/option_tables.py [--check]

A table stands between ``<!-- options: NAME -->`` and ``<!-- end -->``; NAME is a key of ``TABLES``.
With ``--check`` nothing is written, and the exit status is 1 when a page is out of date.
"""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, get_args

from fedcli.cli.catalogue import catalogue_text
from fedcli.cli.options import sections
from fedcli.completion.catalogue import FILE as CATALOGUE
from fedcli.options import Declared, declared, default_text, inner_text
from fedcli.plan.aggregate import DOWNLINK, LIMITS, SAMPLING
from fedcli.plan.client_level import BUDGET, CLIENT_LEVEL
from fedcli.plan.secagg import SecaggOptions
from fedcli.plan.stopping import Stopping

PAGES = Path(__file__).parent / "commands"
OF_CLIENTS = (*CLIENT_LEVEL, *BUDGET)
STREAMING = ("stream", "num_workers")  # of train-client alone
MARKED = re.compile(r"(<!-- options: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEADER = "| option | meaning | default |\n| --- | --- | --- |\n"

Options = Mapping[str, Declared]


def of(group: Any) -> Callable[[], Options]:
    """Return what looks up the options that a parameter of a command stands for."""
    (takes,) = get_args(group)[1:]
    options: Callable[[], Options] = takes.options
    return options


def only(names: Collection[str], group: Any) -> Callable[[], Options]:
    """Return what looks up those of the options that are named."""
    return lambda: {name: one for name, one in of(group)().items() if name in names}


def but(names: Collection[str], group: Any) -> Callable[[], Options]:
    """Return what looks up the options that are not named."""
    return lambda: {name: one for name, one in of(group)().items() if name not in names}


TABLES: dict[str, Callable[[], Options]] = {
    "training": of(sections.TrainingOptions),
    "execution": but(STREAMING, sections.ExecutionOptions),
    "streaming": only(STREAMING, sections.ExecutionOptions),
    "aggregation": but((*SAMPLING, *LIMITS, *DOWNLINK, *OF_CLIENTS), sections.AggregationOptions),
    "sampling": only(SAMPLING, sections.AggregationOptions),
    "limits": only(LIMITS, sections.AggregationOptions),
    "downlink": only(DOWNLINK, sections.AggregationOptions),
    "privacy-of-clients": only(OF_CLIENTS, sections.AggregationOptions),
    "data": of(sections.DataOptions),
    "reading": of(sections.ReadingOptions),
    "checking": of(sections.CheckOptions),
    "cutting": of(sections.SchemeOptions),
    "model": of(sections.ModelOptions),
    "stopping": lambda: declared(Stopping),
    "place": of(sections.PlaceOptions),
    "secagg": lambda: declared(SecaggOptions),
}


def words(one: Declared) -> str:
    """Return how an option is typed, in all its forms."""
    metavar = f" {one.option.metavar}" if one.option.metavar else ""
    forms = [f"{one.words}{metavar}", *one.option.aliases]
    if one.kind is bool and not one.option.flag:
        forms.append(f"--no-{one.words.removeprefix('--')}")
    return ", ".join(f"`{form}`" for form in forms)


def row(one: Declared) -> str:
    """Return the row of an option. Raises ``ValueError`` where it does not state its default."""
    default = default_text(one)
    if not default:
        raise ValueError(f"{one.words}: has no default, and its declaration no 'unset'")
    return f"| {words(one)} | {inner_text(one.option.help)} | {default} |\n"


def with_tables(text: str) -> str:
    """Return the text of a page with its tables as they are to be."""

    def written(marked: re.Match[str]) -> str:
        rows = "".join(map(row, TABLES[marked[2]]().values()))
        return f"{marked[1]}\n{HEADER}{rows}\n{marked[3]}"

    return MARKED.sub(written, text)


def main() -> int:
    """Write the tables of all pages, or check them; return the exit status."""
    stale = {}
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (wanted := with_tables(text)) != text:
            stale[page] = wanted
    if CATALOGUE.read_text(encoding="utf-8") != (wanted := catalogue_text()):
        stale[CATALOGUE] = wanted
    if "--check" in sys.argv[1:]:
        for page in stale:
            print(f"{page}: out of date; run python {sys.argv[0]}")
        return 1 if stale else 0
    for page, wanted in stale.items():
        page.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
