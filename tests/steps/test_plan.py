"""``plan``: a file with every option, and the file that makes a run again."""

import json
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.runs import python
from support.sample_runs import make_run

from fedcli.run import Run
from fedcli.run.info import run_id
from fedcli.steps.plan import plan_template
from fedcli.storage.atomic import write_json

pytestmark = pytest.mark.usefixtures("unsynced")
Cli = Callable[..., tuple[int, str, str]]
SMALL = "partition --limit 60 --model linear"
MAKINGS = [
    "partition --limit 60",
    f"{SMALL} --seed 3 --alpha 0.3 --clients 2 --val-fraction 0.1",
    f"{SMALL} --seed 3 --data-seed 4 --partition-seed 5",
    f"{SMALL} --labels disc,ring --labels 2,3 --test-split both",
    f"{SMALL} --sizes 10,20 --normalize imagenet --steps 3",
    f"{SMALL} --algorithm fedprox --mu 0.3 --lr-schedule step --lr-every 2 --lr-decay 0.5"
    " --augment flip,crop --momentum 0 --strategy trimmed-mean --trim 0.1 --fraction 0.5",
    f"{SMALL} --scheme feature-rotate --angles 0,90 --algorithm scaffold",
    f"{SMALL} --strategy qfedavg --scheme pathological",
    "partition --limit 60 --model resnet18 --stem cifar --norm group --lora 2 --lora-alpha 4",
]


def write(text: str, path: Path) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("line", MAKINGS)
def test_the_file_of_a_run_makes_the_same_run(line: str, tmp_path: Path, cli: Cli) -> None:
    step, *options = shlex.split(line)
    assert cli(step, "--run", tmp_path / "one", *options)[0] == 0
    status, text, err = cli("plan", "--of", tmp_path / "one")
    assert (status, err) == (0, "")
    file = write(text, tmp_path / "of.toml")
    assert cli("partition", "--run", tmp_path / "two", "--plan", file)[0] == 0
    one, two = (tmp_path / name / "run.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_the_template_makes_the_run_of_the_defaults(tmp_path: Path, cli: Cli) -> None:
    file = write(cli("plan")[1], tmp_path / "t.toml")
    for name, words in {"one": (), "two": ("--plan", file)}.items():
        command = ("partition", "--run", tmp_path / name, "--limit", 50)
        assert cli(*command, *words)[0] == 0
        command = ("init", "--run", tmp_path / f"i{name}", "--num-classes", 2)
        assert cli(*command, *words)[0] == 0
    for one, two in (("one", "two"), ("ione", "itwo")):
        first, second = (tmp_path / run / "run.json" for run in (one, two))
        assert first.read_bytes() == second.read_bytes()


def test_the_file_of_a_run_of_init(tmp_path: Path, cli: Cli) -> None:
    words = ("--classes", "cat,dog", "--clients", "a,b")
    own = ("--image-size", 16, "--window", "-100,400", "--model", "linear", "--seed", 2)
    assert cli("init", "--run", tmp_path / "one", *words, *own)[0] == 0
    text = cli("plan", "--of", tmp_path / "one")[1]
    assert "give fedcli init its --classes" in " ".join(text.replace("# ", "").split())
    file = write(text, tmp_path / "of.toml")
    assert cli("init", "--run", tmp_path / "two", *words, "--plan", file)[0] == 0
    assert Run.open(tmp_path / "one").id == Run.open(tmp_path / "two").id


def test_a_file_cannot_say_where_data_was(tmp_path: Path, cli: Cli) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (40, 8, 8), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "data.npz", x=x, y=y)
    place = ("--dataset", f"npz:{tmp_path / 'data.npz'}", "--model", "linear", "--layout", "NHW")
    assert cli("partition", "--run", tmp_path / "one", *place, "--test-fraction", 0.3)[0] == 0
    file = write(cli("plan", "--of", tmp_path / "one")[1], tmp_path / "of.toml")
    assert "# PATH stands for where the data was" in file.read_text(encoding="utf-8")
    assert cli("partition", "--run", tmp_path / "two", "--plan", file)[0] == 3
    assert cli("partition", "--run", tmp_path / "two", "--plan", file, *place[:2])[0] == 0
    assert Run.open(tmp_path / "one").id == Run.open(tmp_path / "two").id


def test_rounds_are_those_that_are_complete(tmp_path: Path) -> None:
    found = plan_template(make_run(tmp_path / "r"))
    assert tomllib.loads("\n".join(found.lines))["run"]["rounds"] == 3


def test_what_a_stranger_wrote_is_left_out_and_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    origin = {
        "data": {"limit": [1]},
        "scheme": 3,
        "parameters": {"x y": [[1], {"b": 2}], "alpha": "\x1b[31m", "labels": 3},
        "val_fraction": {"a": 1},
        "partition_seed": [],
    }
    values = {**run.info.as_json(), "origin": origin}
    values["dataset"] = {**values["dataset"], "shape": []}
    write_json(run.root / "run.json", {**values, "id": run_id(values)})
    text = "\n".join(plan_template(Run.open(run.root)).lines)
    assert tomllib.loads(text)["data"]["val_fraction"] == 0.0
    assert "\x1b" not in text
    said = " ".join(text.replace("# ", "").split())
    assert "Not options of this version: [data] limit, [data] val_fraction" in said
    assert "[partition] x y" in said
    assert "[partition] scheme" in said


def test_no_torch_is_needed(tmp_path: Path) -> None:
    code = "import sys; from fedcli.steps.plan import plan_schema, plan_template;"
    code += "plan_template(); plan_schema(); print('torch' in sys.modules)"
    assert python(code, cwd=tmp_path).out == "False\n"


def test_json_and_schema(tmp_path: Path, cli: Cli) -> None:
    found = json.loads(cli("plan", "--json")[1])
    assert (found["command"], found["schema"]) == ("plan", 1)
    assert found["lines"] == [*plan_template().lines]
    schema = json.loads(cli("plan", "--schema")[1])
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert json.loads(cli("plan", "--schema", "--json")[1])["json_schema"] == schema
    status, _, err = cli("plan", "--schema", "--of", tmp_path)
    assert (status, err.split(":")[1].strip()) == (2, "--schema")
    assert cli("plan", "--of", tmp_path / "nowhere")[0] == 4
