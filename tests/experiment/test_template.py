"""The template of an experiment's file and its schema: all options, at their defaults."""

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.pages import ROOT

from fedcli.experiment.file import read_experiment
from fedcli.experiment.schema import json_schema
from fedcli.experiment.sections import SECTIONS
from fedcli.experiment.sweep import read_sweep
from fedcli.experiment.template import template
from fedcli.experiment.toml import toml_value
from fedcli.options import AUTO

TEXT = "\n".join(template()) + "\n"
KEY = re.compile(r"^(?:# )?([a-z_0-9]+) = (.+)$", re.MULTILINE)
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def tables() -> dict[str, str]:
    """The text below each heading of a section."""
    parts = re.split(r"^(?:# )?\[+([a-z.]+)\]+$", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_option_is_there_once_in_its_section() -> None:
    found = tables()
    for name, options in SECTIONS.items():
        assert [key for key, _ in KEY.findall(found[name])] == [*options()]


def test_what_is_set_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(TEXT, encoding="utf-8")
    found = read_experiment(tmp_path / "t.toml").settings
    assert found.keys() == SECTIONS.keys()
    for name, values in found.items():
        for key, value in values.items():
            one = SECTIONS[name]()[key]
            assert value == one.default, (name, key)
            assert one.option.unset is None or one.option.auto
    assert len(found["train"]) > 8


def test_the_comment_of_an_option_is_its_help() -> None:
    words = " ".join(TEXT.replace("# ", "").split())
    for options in SECTIONS.values():
        for key, one in options().items():
            assert one.option.help.replace("`", "") in words, key
    assert "off, unless the strategy needs it" in words


@pytest.mark.parametrize("section", SECTIONS)
def test_a_line_without_its_mark_is_toml_once_its_word_is_replaced(section: str) -> None:
    for key, value in KEY.findall(tables()[section]):
        one = SECTIONS[section]()[key]
        word = re.fullmatch(r"\[?[A-Z]+\]?", value)
        number = value.replace(word[0].strip("[]"), "1") if word else value
        parsed = tomllib.loads(f"{key} = {number}")[key]
        assert isinstance(parsed, list) == one.many


def test_the_sweep_of_the_template_can_be_run(tmp_path: Path) -> None:
    start = TEXT.index("# [sweep]")
    lines = TEXT[start:].replace("# What", "## What").splitlines()
    text = TEXT[:start] + "\n".join(line.removeprefix("# ") for line in lines)
    (tmp_path / "t.toml").write_text(text.replace("# rounds = N", "rounds = 1"), encoding="utf-8")
    names = [case.name for case in read_sweep(tmp_path / "t.toml").cases]
    assert len(names) == 6
    assert names[0] == "fedprox-mu0.1-seed0-lr0.01"


def test_values_replace_defaults_and_none_leaves_them(tmp_path: Path) -> None:
    values = {
        "train": {"epochs": None, "steps": 3, "augment": ("flip",)},
        "data": {"dataset": 'a "b"\n\x1b\u202e\\'},
    }
    text = "\n".join(template(values, ("A remark.",)))
    assert text.isprintable() or set(text) - set(filter(str.isprintable, text)) == {"\n"}
    (tmp_path / "t.toml").write_text(text, encoding="utf-8")
    found = read_experiment(tmp_path / "t.toml").settings
    assert (found["train"]["steps"], found["train"]["augment"]) == (3, ("flip",))
    assert "epochs" not in found["train"]
    assert found["data"]["dataset"] == values["data"]["dataset"]
    assert "# A remark." in text


@pytest.mark.parametrize(
    "value", [True, 3, 1e-05, 1e22, 0.1, "ü…", 'a"\\\n\t\x7f\U000e0001', [1, 2], [["a"], []]]
)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


# --- the schema --------------------------------------------------------------------------------


def faults(text: str) -> list[str]:
    found = jsonschema.Draft7Validator(json_schema()).iter_errors(tomllib.loads(text))
    return [error.message for error in found]


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_the_template_is_valid() -> None:
    assert EXAMPLES
    assert faults(TEXT) == []


@pytest.mark.parametrize(
    "text",
    [
        '[sweep]\nseed = "0-2,5"\n"train.lr" = [0.1]\naugment = [["flip"], []]',
        "[sweep]\ntrain.lr = [0.1]\n[[sweep.case]]\nmu = 1\ntrain.batch_size = 3",
        '[run]\njobs = "auto"\nexclude = ["0-3"]\n[partition]\nlabels = [["0"], ["1", "2"]]',
        "[run]\njobs = 2",
    ],
)
def test_what_can_be_said_is_valid(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "[tran]",
        "lr = 0.1",
        "[train]\nalpha = 1",
        "[train]\nlr = 0",
        "[train]\nmomentum = 1",
        "[train]\nepochs = 1.5",
        '[train]\noptimizer = "lbfgs"',
        '[train]\naugment = ["flp"]',
        '[train]\naugment = "flip"',
        '[run]\njobs = "all"',
        "[sweep]\nlr = 0.1",
        "[sweep]\nlr = []",
        '[sweep]\nseed = "0-"',
        "[sweep]\njobs = [1]",
        "[sweep.case]\nmu = 1",
        "[[sweep.case]]\nmu = [1]",
    ],
)
def test_what_is_refused_is_not_valid(text: str) -> None:
    assert faults(text)


def test_the_schema_has_help_defaults_and_bounds() -> None:
    found = json_schema()["properties"]["train"]["properties"]
    assert found["momentum"]["default"] == 0.9
    assert found["momentum"]["minimum"] == 0
    assert found["momentum"]["exclusiveMaximum"] == 1
    assert found["momentum"]["description"].startswith("Momentum of SGD")
    assert found["optimizer"]["enum"] == ["sgd", "adam", "adamw"]
    jobs = json_schema()["properties"]["run"]["properties"]["jobs"]
    assert jobs["default"] == AUTO
