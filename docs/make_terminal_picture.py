"""Draw docs/report.svg: what ``fedcli report`` shows in a terminal of 80 columns.

    python docs/make_terminal_picture.py RUN...

The picture shows the command with the words that are given, so call it from the directory that
holds the runs; a pattern in quotes, such as 'compare/*', stays one.
Only the beginning of the report is drawn, without its long tables. The SVG uses no font and no file
from elsewhere.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

PICTURE = Path(__file__).with_name("report.svg")
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" class="rich-terminal" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
}}
.{unique_id}-title {{
    font-family: system-ui, sans-serif;
    font-size: 18px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def output_of(command: list[str]) -> str:
    """Run a command as a terminal of 80 columns would show it."""
    environment = {**os.environ, "COLUMNS": "80", "FORCE_COLOR": "1"}
    finished = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return finished.stdout


def found(word: str) -> list[str]:
    """Return what a pattern matches, as a shell does, or the word itself."""
    if "*" not in word:
        return [word]
    return sorted(str(path) for path in Path().glob(word) if not path.name.startswith("."))


def is_shown(line: str) -> bool:
    """Return whether a line is above the curves of the loss, and the tables below them."""
    return "by round" not in line and Text.from_ansi(line).plain.strip() != "loss"


def main() -> None:
    """Draw the report of the runs that the command line names."""
    if not sys.argv[1:]:
        sys.exit("usage: python docs/make_terminal_picture.py RUN...")
    command = ["fedcli", "report", *sys.argv[1:]]
    runs = [run for word in sys.argv[1:] for run in found(word)]
    lines = output_of(["fedcli", "report", *runs, "--quiet"]).splitlines()
    shown = itertools.takewhile(is_shown, lines)
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=80, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {' '.join(command)}", style="bold"))
        for line in "\n".join(shown).rstrip().splitlines():
            console.print(Text.from_ansi(line), no_wrap=True)
        svg = console.export_svg(
            title="fedcli report", theme=DIMMED_MONOKAI, code_format=FORMAT, unique_id="report"
        )
    PICTURE.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
