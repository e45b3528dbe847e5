"""The documentation says what the program does: options, defaults, examples, files, links."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from support.pages import (
    PAGES,
    README,
    ROOT,
    all_blocks,
    blocks,
    name_of,
    run_shell,
    shell_script,
    without_blocks,
)

import fedcli
from fedcli import cli
from fedcli.algorithms import ALGORITHMS
from fedcli.cli import app, command_of
from fedcli.errors import CheckpointError, ExitStatus
from fedcli.formats.checkpoint import Checkpoint
from fedcli.partitioning.partitioners import PARTITIONERS
from fedcli.plan import AggregatePlan, TrainPlan
from fedcli.strategies import STRATEGIES
from fedcli.strategies.reducers import REDUCERS
from fedcli.strategies.server_optimizers import SERVER_OPTIMIZERS
from fedcli.strategies.weightings import WEIGHTINGS

DOCS = ROOT / "docs"
PROGRAM: Any = typer.main.get_command(app)
COMMANDS = {name: command_of(name) for name in cli.COMMANDS}
PLAN = {**asdict(TrainPlan()), **asdict(AggregatePlan())}

TOP = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]

each_page = pytest.mark.parametrize("page", [*PAGES, README], ids=name_of)
each_command = pytest.mark.parametrize("command", COMMANDS)


def page_of(command: str) -> Path:
    return DOCS / "commands" / f"{command}.md"


def options(command: Any) -> set[str]:
    """Every spelling of every option of a command."""
    return {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")
    } | {"--help", "-h"}


def options_table(page: Path, text: str) -> dict[str, tuple[str, str]]:
    """The rows of an options table: each option with its meaning and its default.

    A row that is a link to a section stands for the rows of that section's table.
    """
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if link := re.match(r"\| \[[^]]+\]\(([^)#]*)#([^)]+)\) \|", line):
            linked = page.parent / link[1] if link[1] else page
            rows |= options_table(linked, section(linked, link[2]))
        if line.startswith("| `-") and len(cells) == 3:
            for name in re.findall(r"`(--?[a-z][a-z0-9-]*)", cells[0]):
                rows[name] = (cells[1], cells[2])
    return rows


def section(page: Path, anchor: str) -> str:
    """The text under the heading of a page that a link leads to, up to the next heading."""
    parts = re.split(r"^#+ (.+)$", without_blocks(page), flags=re.MULTILINE)
    sections = {
        anchor_of(heading): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return sections[anchor]


@each_command
def test_the_page_of_a_command_lists_its_options_and_no_other(command: str) -> None:
    page = page_of(command)
    table = options_table(page, without_blocks(page))
    assert set(table) == options(COMMANDS[command])
    assert all(meaning for meaning, _ in table.values())


@each_command
def test_the_page_of_a_command_states_the_defaults(command: str) -> None:
    page = page_of(command)
    table = options_table(page, without_blocks(page))
    for parameter in COMMANDS[command].params:
        value = PLAN.get(parameter.name) if parameter.default is None else parameter.default
        if parameter.opts[0].startswith("--") and isinstance(value, str | int | float | Path):
            assert default_in_table(value) in table[parameter.opts[0]][1], parameter.opts[0]


def default_in_table(value: str | int | float | Path) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_the_tables_of_declared_options_are_up_to_date() -> None:
    script = str(DOCS / "option_tables.py")
    process = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (0, ""), process.stdout


def test_a_stale_table_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "commands").mkdir(parents=True)
    script = shutil.copy(DOCS / "option_tables.py", folder)
    page = folder / "commands" / "page.md"
    page.write_text("<!-- options: limits -->\n| old |\n<!-- end -->\n", encoding="utf-8")
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 1
    assert subprocess.run([sys.executable, script], check=False).returncode == 0
    assert set(options_table(page, page.read_text())) == {"--max-norm", "--max-examples"}
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0


def test_the_index_of_commands_lists_what_the_program_offers() -> None:
    index = DOCS / "commands" / "README.md"
    links = re.findall(r"\(([a-z-]+)\.md\)", index.read_text(encoding="utf-8"))
    assert links == list(COMMANDS)
    assert set(options_table(index, section(index, "options-of-the-program"))) == options(PROGRAM)
    assert {path.stem for path in index.parent.glob("*.md")} == {*COMMANDS, "README"}


def test_the_readme_is_a_page_that_links_every_command_and_the_documentation() -> None:
    text = README.read_text(encoding="utf-8")
    assert {*re.findall(r"\(docs/commands/([a-z-]+)\.md\)", text)} == {*COMMANDS}
    assert "(docs/README.md)" in text
    assert len(text.splitlines()) <= 160


def command_lines(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The calls of fedcli on a page: the command and the options that it is given."""
    code = all_blocks(page) + "\n" + "\n".join(re.findall(r"`([^`\n]+)`", without_blocks(page)))
    for match in re.finditer(
        r"(?<!from )\bfedcli (?:help )?([a-z][a-z-]*)((?:(?!fedcli )[^|&;<>\n)])*)", code
    ):
        yield match[1], re.findall(r"(?<!\S)--?[a-z][a-z0-9-]*", match[2])


def table(page: Path, anchor: str) -> dict[str, list[str]]:
    """The cells of a section's table, by the name in the first one."""
    lines = section(page, anchor).splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip(" `") for cell in row[1:]] for row in rows[1:]}


def test_the_page_of_aggregate_lists_every_rule_with_its_paper() -> None:
    page = page_of("aggregate")
    for anchor, rules in (
        ("strategies", {name: STRATEGIES[name] for name in STRATEGIES if name not in REDUCERS}),
        ("reducers", REDUCERS),
        ("server-optimizers", SERVER_OPTIMIZERS),
        ("weightings", WEIGHTINGS),
    ):
        listed = {name: cells[-1] for name, cells in table(page, anchor).items()}
        assert listed == {name: rule.source for name, rule in rules.items()}


def test_the_page_of_aggregate_names_the_parts_of_every_strategy() -> None:
    listed = table(page_of("aggregate"), "strategies")
    for name, strategy in STRATEGIES.items():
        parts = (strategy.reduce, strategy.server_optimizer, strategy.weighting)
        if name in REDUCERS:
            assert parts == (name, "sgd", "uniform")
        else:
            assert listed[name][0] == "`, `".join(parts)


def test_the_page_of_algorithms_lists_each_with_its_options_and_its_paper() -> None:
    listed = table(DOCS / "algorithms.md", "local-algorithms")
    assert listed.keys() == ALGORITHMS.keys()
    for name, row in ALGORITHMS.items():
        summary, options, strategy, keeps, source = listed[name]
        words = (f"--{option.replace('_', '-')}" for option in row().options)
        assert (summary, options) == (row.summary, "`, `".join(words))
        slot = "local" if row.keeps_layers else row.keeps or ""
        assert (strategy, keeps, source) == (row.strategy, slot, row.source)


def test_the_page_of_partition_lists_every_scheme_with_its_options_and_source() -> None:
    listed = table(page_of("partition"), "schemes")
    for name, partitioner in PARTITIONERS.items():
        words = (f"--{option.replace('_', '-')}" for option in partitioner.options)
        assert listed[name][1:] == ["`, `".join(words), partitioner.source]


@each_page
def test_calls_of_the_program_use_commands_and_options_that_exist(page: Path) -> None:
    for command, given in command_lines(page):
        assert command in COMMANDS
        assert set(given) <= options(COMMANDS[command]), command


@each_page
def test_options_in_running_text_exist(page: Path) -> None:
    known = options(PROGRAM).union(*map(options, COMMANDS.values()))
    named = re.findall(r"`(--?[a-z][a-z0-9-]*)[^`\n]*`", without_blocks(page))
    assert set(named) <= known


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return set(map(anchor_of, headings))


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_start_page_lists_every_page_once_and_says_what_it_is_about() -> None:
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[[^]]+\]\(([\w/.-]+)\): \w", text, re.MULTILINE)
    others = {name_of(page).removeprefix("docs/") for page in PAGES if page.parent == DOCS}
    assert sorted(listed) == sorted({*others, "commands/README.md"} - {"README.md"})


def test_a_page_says_what_each_example_is_for() -> None:
    pages = [DOCS / name for name in ("examples.md", "schedulers.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    named = re.findall(r"`([\w-]+(?:\.\w+)?)`", text)
    files = [path for path in (ROOT / "examples").rglob("*") if path.is_file()]
    assert {path.name for path in files if path.suffix != ".pyc"} <= {*named}


@each_page
def test_pages_name_no_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    hosts = r"pypi\.org|pythonhosted|anaconda\.org|download\.pytorch|localhost"
    assert not re.search(rf"{hosts}|(?<![\w.])/(home|root|work|tmp|Users)/", text)


def test_every_exit_status_has_a_row() -> None:
    text = (DOCS / "exit-status.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)
    assert [int(row) for row in rows] == [status.value for status in ExitStatus]


NAMED_BY_DATA = {
    "label_counts",
    "validation_label_counts",
    "client_test_label_counts",
    "groups",
    "members",
    "updates",
    "late",
    "partials",
    "departures",
    "roles",
    "options",
    "aggregate",  # the options in the plan
    "survivors",
    "shares",
    "commitments",
    "own",
    "pairs",
    "masking_keys",
    "remotes",
}


def keys_of(value: Any) -> Iterator[str]:
    """The keys of a JSON value, but for those that are data: clients, files, tensors, options."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            if key == "shards":
                item = list(item.values())
            if not (isinstance(item, dict) and key in NAMED_BY_DATA):
                yield from keys_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys_of(item)


def assert_specified(run: Path) -> None:
    """Every file of a run, and every key in it, is in the specification of the format."""
    text = (DOCS / "run-directory.md").read_text(encoding="utf-8")
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = path.relative_to(run).as_posix()
        if name.startswith("keys/"):  # private keys, and what each party has signed
            assert "`keys/clients/ID.key`" in text
            continue
        name = re.sub(r"rounds/\d+/", "rounds/NNNN/", name)
        folders, endings = "updates|client_state|unmask|privacy", "json|safetensors|sig|shares"
        name = re.sub(rf"({folders})/[^/]+\.({endings})$", r"\1/ID.\2", name)
        name = re.sub(
            r"client-[^/]+?(\.val|\.test)?\.safetensors$", r"client-ID\1.safetensors", name
        )
        name = re.sub(r"clients/[^/]+\.key", "clients/ID.key", name)
        name = re.sub(r"(answered|closed)/\w+-\d{4}-\d(-\w+|\.json)", r"\1/…", name)
        assert f"`{name}`" in text, name
        if name.startswith("keys/"):
            continue
        is_json = path.suffix in (".json", ".sig", ".shares")
        values = json.loads(path.read_text()) if is_json else metadata(path)
        assert {key for key in keys_of(values) if f"`{key}`" not in text} == set(), name


def metadata(path: Path) -> Any:
    """What a checkpoint says of itself; nothing for one that an example has broken on purpose."""
    try:
        with Checkpoint(path) as checkpoint:
            return json.loads(checkpoint.metadata.encode())
    except CheckpointError:
        return {}


NEEDED = {"trackers.md": ("pandas", "pyarrow", "tensorboard", "mlflow", "sqlalchemy", "wandb")}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=name_of)
def test_shell_blocks_run(page: Path, tmp_path: Path) -> None:
    if missing := [name for name in NEEDED.get(page.name, ()) if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    printed = run_shell(shell_script(page), tmp_path, OMP_NUM_THREADS="1")
    for block in blocks(page, "text"):
        if block.text.startswith("error:"):
            assert block.text in printed
    for run in tmp_path.rglob("run.json"):
        assert_specified(run.parent)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    for block in blocks(page, "python"):
        lines += [""] * (block.line - 1 - len(lines))  # so that a traceback names the page's line
        lines += block.text.splitlines()
    (tmp_path / "page.py").write_text("\n".join(lines), encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def test_the_functions_of_the_python_api_are_described_as_they_are() -> None:
    text = (ROOT / "docs" / "python-api.md").read_text()
    rows = re.findall(r"^\| `(\w+)\((.*)\)` \| `(\w+)` \|$", text, re.M)
    others = {"run": "run_rounds", "plan": "plan_template"}
    steps = {others.get(name, name.replace("-", "_")) for name in COMMANDS}
    assert {name for name, *_ in rows} == steps | {"partial", "close_round", "compare"}
    for name, parameters, result in rows:
        signature = inspect.signature(getattr(fedcli, name))
        assert result in dir(fedcli)
        assert ", ".join(parts_of(signature)) == parameters, name
        returned = signature.return_annotation
        assert getattr(returned, "__name__", returned) == result, name


def parts_of(signature: inspect.Signature) -> list[str]:
    """The names of parameters, with a star before those that go by name only."""
    parameters = list(signature.parameters.values())
    by_place = [p.name for p in parameters if p.kind != p.KEYWORD_ONLY]
    by_name = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
    return by_place + (["*", *by_name] if by_name else [])
