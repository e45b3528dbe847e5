"""What ``fedcli report`` prints of its result: tables, JSON, Markdown, LaTeX or CSV."""

from functools import partial

from fedcli.cli.render.output import Output
from fedcli.reporting.report import Report


def show(report: Report, text: str | None, output: Output, *, details: bool = False) -> None:
    """Print a report: as ``text`` (``markdown``, ``latex`` or ``csv``), else as tables or JSON.

    ``details`` adds the tables of each run where runs are compared as methods.
    """
    if text == "markdown":
        from fedcli.reporting.markdown import to_markdown

        print(to_markdown(report, details=details), end="")
    elif text == "latex":
        from fedcli.reporting.latex import to_latex

        print(to_latex(report, details=details), end="")
    elif text == "csv":
        from fedcli.reporting.tidy import to_csv

        print(to_csv(report), end="")
    else:
        from fedcli.reporting.terminal import render

        output.result(report, partial(render, details=details))
