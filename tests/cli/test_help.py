"""The help: what one needs first, every option, within the terminal, with an example and a page."""

import importlib.metadata
import os
import shlex
from email.message import Message
from typing import Any

import pytest

from fedcli.cli import COMMANDS, command_of, execute
from fedcli.cli.manual import manual_of, page_of

each_command = pytest.mark.parametrize("command", COMMANDS)
AROUND = 70  # lines of a long help besides one per option: headings, what comes first, examples


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def said(line: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert execute(line.split()) == 0
    return capsys.readouterr().out.rstrip().splitlines()


def params(command: str) -> list[Any]:
    built = command_of(command)
    found: list[Any] = built.get_params(built.make_context(command, [], resilient_parsing=True))
    return found


@pytest.mark.parametrize("columns", [80, 120])
@each_command
def test_help_fits_the_terminal(
    command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for line in (f"{command} --help", f"help {command}"):
        assert max(map(len, said(line, capsys))) <= columns


@each_command
def test_help_has_every_option_on_a_line_of_its_own(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(f"{command} --help", capsys)
    starts = [word.strip(",") for line in lines if line[:3].strip() for word in line.split()[:2]]
    for one in params(command):
        word = next((word for word in one.opts if word.startswith("--")), None)
        if word is not None:
            named = f"--[no-]{word[2:]}" if one.secondary_opts else word
            assert starts.count(named) == 1, named
    assert not any("<bool>" in line or "list[" in line for line in lines)


@each_command
def test_the_whole_help_says_all_of_each_option(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = " ".join(" ".join(said(f"help {command}", capsys)).split())
    for one in params(command):
        assert one.help.removesuffix(".") in whole, one.opts


@each_command
def test_help_ends_with_examples_and_the_page(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(f"{command} --help", capsys)
    examples = manual_of(command).examples
    assert examples
    assert [line.strip() for line in lines[lines.index("Examples:") + 1 :]][: len(examples)] == [
        *examples
    ]
    assert f"Page: {page_of(command)}" in lines[-2:]
    for example in examples:
        program, name, *words = shlex.split(example.partition(" > ")[0])
        assert (program, name) == ("fedcli", command)
        command_of(command).make_context(command, words, resilient_parsing=True)


def test_the_page_is_that_of_the_site_where_a_release_names_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    about = Message()
    about["Project-URL"] = "Source, https://example.org/code"
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: about)
    assert page_of("run") == "docs/commands/run.md"
    about["Project-URL"] = "Documentation, https://example.org/docs/"
    assert page_of("run") == "https://example.org/docs/commands/run.html"


def test_the_most_used_options_come_first_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said("partition --help", capsys)
    at = lines.index("Most used:")
    assert lines[at + 1].startswith("  --dataset SPEC ")
    assert lines[at + 2].endswith("[synthetic]")


def test_the_help_of_partition_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said("partition --help", capsys)
    longest = len(params("partition")) + AROUND
    assert len(lines) <= longest < len(said("help partition", capsys))
    first = next(at for at, line in enumerate(lines) if line == "Data:")
    options = lines[first : lines.index("Examples:")]
    assert all(line.startswith("  -") or line.endswith(":") or not line for line in options)
    assert "fedcli help partition says more of each option." in lines


def test_a_meaning_in_brief_keeps_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line for line in said("run --help", capsys) if "--momentum" in line]
    assert rows == ["  --momentum M        Momentum of SGD, or β₁ of Adam; starts from 0 … [0.9]"]


def test_help_of_a_command_and_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("help", capsys) == said("--help", capsys)
    assert said("help gc", capsys) == said("gc -h", capsys)
    groups = [line for line in said("help", capsys) if line.endswith(":")]
    assert groups[:5] == [
        "Make a run:", "A round:", "Look:", "Many rounds, many runs:", "Move and keep:",
    ]  # fmt: skip
    assert execute(["help", "trian-client"]) == 2
    assert execute(["help", "gc", "status"]) == 0


def test_colours_mark_options_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = next(line for line in said("gc --help", capsys) if "--keep-last" in line)
    assert line.startswith("  \x1b[1;36m--keep-last N\x1b[0m  ")
