"""A report says how each run was made, in options and as commands that make it again."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from support.reports import terminal_text
from support.sample_runs import edit_manifest, make_run
from support.small_runs import small_run

from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.reporting.markdown import to_markdown
from fedcli.run import Run
from fedcli.run.info import run_id
from fedcli.steps.aggregate import aggregate
from fedcli.steps.report import report
from fedcli.steps.train_client import train_client
from fedcli.storage.atomic import read_json, write_json

pytestmark = pytest.mark.usefixtures("unsynced")
Cli = Callable[..., tuple[int, str, str]]
MAKINGS = [
    "partition --limit 60 --seed 3 --model linear --alpha 0.3 --clients 2 --val-fraction 0.1",
    "partition --limit 60 --model linear --labels disc,ring --labels 2,3 --test-split both",
    "partition --limit 60 --model linear --sizes 10,20 --normalize imagenet --steps 3",
    "partition --limit 60 --model linear --algorithm fedprox --mu 0.3 --lr-schedule step"
    " --lr-every 2 --lr-decay 0.5 --augment flip,crop --momentum 0 --strategy trimmed-mean"
    " --trim 0.1 --fraction 0.5",
    "partition --limit 60 --model linear --scheme feature-rotate --angles 0,90"
    " --algorithm scaffold",
    "partition --limit 60 --model resnet18 --stem cifar --norm group --lora 2 --lora-alpha 4",
    "init --classes '\"a, b\",dog,two words' --clients a,b --image-size 16 --channels 1"
    " --window -100,400 --model linear --server-momentum 0.5 --weight-decay 0.01",
]


@pytest.mark.parametrize("line", MAKINGS)
def test_the_first_command_makes_the_same_run(line: str, tmp_path: Path, cli: Cli) -> None:
    step, *options = shlex.split(line)
    assert cli(step, "--run", tmp_path / "one", *options)[0] == 0
    run = Run.open(tmp_path / "one")
    make_sayable(run)
    (found,) = report([run]).runs
    program, again, option, place, *words = shlex.split(found.recipe.commands[0])
    assert (program, again, option, place) == ("fedcli", step, "--run", "one")
    assert cli(again, "--run", tmp_path / "two", *words)[0] == 0
    assert Run.open(tmp_path / "two").id == run.id


FOLDERS = [
    "--group folder --scheme natural",
    "--group none --skip-bad --clients 2",
    "--labels-csv FILE --image-column shot --label-column kind --group-column site",
    "--labels-csv FILE --image-column shot --label-column ill,well --image-size 8 --window 0,90",
]


@pytest.mark.parametrize(
    "options",
    [
        "--layout NHW --image-size 8 --normalize imagenet",
        "--init-from FILE --normalize half",
        "--init-from FILE",
    ],
)
def test_the_command_has_what_arrays_and_weights_do_not_imply(
    options: str, tmp_path: Path, cli: Cli
) -> None:
    x = np.random.default_rng(0).integers(0, 255, (30, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(30) % 3)
    torch.save(torchvision.models.resnet18(num_classes=1000).state_dict(), tmp_path / "w.pth")
    files = {"FILE": str(tmp_path / "w.pth"), "npz:PATH": f"npz:{tmp_path / 'a.npz'}"}
    words = [
        "--dataset",
        "npz:PATH",
        "--model",
        "resnet18",
        "--clients",
        "2",
        *shlex.split(options),
    ]
    ids = []
    for name in ("one", "two"):
        given = [files.get(word, word) for word in words]
        status, _, err = cli("partition", "--run", tmp_path / name, *given)
        assert status == 0, err
        run = Run.open(tmp_path / name)
        ids.append(run.id)
        make_sayable(run)
        words = shlex.split(report([run]).runs[0].recipe.commands[0])[4:]
    assert ids[0] == ids[1]


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two classes in two hospitals, and a table that cuts them otherwise."""
    root = tmp_path_factory.mktemp("hospitals")
    rows = ["shot,kind,site,ill,well"]
    for number in range(24):
        name = f"{('north', 'south')[number % 2]}/{('a', 'b')[number // 2 % 2]}/{number}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (10 * number, 0, 0)).save(root / name)
        ill = number // 4 % 2
        rows.append(f"{name},{('no', 'yes')[ill]},{('x', 'y')[number % 2]},{ill},{1 - ill}")
    (root / "table.csv").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize("options", FOLDERS)
def test_the_command_reads_a_folder_as_it_was_read(
    options: str, hospitals: Path, tmp_path: Path, cli: Cli
) -> None:
    files = {"FILE": str(hospitals / "table.csv"), "imagefolder:PATH": f"imagefolder:{hospitals}"}

    def made(name: str, words: list[str]) -> Run:
        words = [files.get(word, word) for word in words]
        status, _, err = cli("partition", "--run", tmp_path / name, *words)
        assert status == 0, err
        return Run.open(tmp_path / name)

    own = shlex.split(options)
    run = made("one", ["--dataset", "imagefolder:PATH", "--model", "linear", *own])
    make_sayable(run)
    words = shlex.split(report([run]).runs[0].recipe.commands[0])[4:]
    assert {*own} <= {*words}
    assert str(hospitals) not in run.partition_file.read_text()
    assert made("two", words).id == run.id


def test_a_run_that_does_not_say_how_it_was_read_says_that_it_has_groups(
    hospitals: Path, tmp_path: Path, cli: Cli
) -> None:
    dataset = ("--dataset", f"imagefolder:{hospitals}", "--group", "folder")
    cli("partition", "--run", tmp_path / "r", *dataset, "--model", "linear")
    run = Run.open(tmp_path / "r")
    make_sayable(run)
    values = read_json(run.partition_file)
    assert values.pop("data_options") == {"group": "folder"}
    write_json(run.partition_file, values)
    assert " --group NAME" in report([run]).runs[0].recipe.commands[0]


def make_sayable(run: Run) -> None:
    """Let a run that nobody has trained yet have something to report: a bare round 1."""
    run.round(1).global_model.parent.mkdir(parents=True)
    run.round(1).global_model.write_bytes(run.round(0).global_model.read_bytes())


def test_the_commands_of_a_round_name_what_left_the_plan(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", plan=Plan(TrainPlan.of(algorithm="fedprox"), AggregatePlan()))
    for client in "012":
        entries = {client: {"departures": {"mu": 0.5, "augment": None}}}
        for number in (1, 2, 3):
            edit_manifest(run.round(number), accepted=entries)
    edit_manifest(
        run.round(3), strategy="trimmed-mean", reduce="trimmed-mean", options={"trim": 0.1}
    )
    (found,) = report([run]).runs
    assert found.recipe.commands[1:] == (
        "fedcli train-client --run r --id all --augment none --mu 0.5",
        "fedcli aggregate --run r --strategy trimmed-mean --reduce trimmed-mean --trim 0.1",
        "fedcli evaluate --run r",
    )
    assert found.recipe.train["mu"] == 0.5
    assert found.recipe.aggregate["other_rules"] == ("fedavg in rounds 1-2",)


def test_versions_and_devices_are_those_of_the_training(tmp_path: Path) -> None:
    run = small_run(tmp_path / "fedrun", Plan(TrainPlan.of(epochs=1, batch_size=16)))
    train_client(run, ["all"])
    aggregate(run)
    (found,) = report([run]).runs
    assert found.recipe.versions["torch"] == (torch.__version__,)
    assert found.recipe.versions["numpy"] == (np.__version__,)
    (hardware,) = found.recipe.hardware
    assert hardware.startswith("cpu (")
    assert read_json(run.round(1).manifest)["processor"] in hardware
    edit_manifest(run.round(1), processor="a server", versions={"numpy": "1.0"})
    (found,) = report([run]).runs
    assert found.recipe.hardware == (hardware, "aggregated on a server")
    assert found.recipe.versions["numpy"] == (np.__version__, "1.0")
    telemetry = run.round(1).telemetry("0")
    write_json(telemetry, {**read_json(telemetry), "versions": {"torch": "9"}})
    (found,) = report([run]).runs
    assert found.recipe.versions["torch"] == ("9", torch.__version__)


def test_a_seed_that_splits_data_is_no_option_of_the_method(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{seed}", seed=seed) for seed in (0, 1)]
    for run in runs:
        values = run.info.as_json()
        origin = {"data": {"sha256": "5" * 64, "test_fraction": 0.2, "split_seed": run.info.seed}}
        write_json(run.root / "run.json", _with_id({**values, "origin": origin}))
    found = report([Run.open(run.root) for run in runs])
    assert [method.n for method in found.methods] == [2]
    assert found.runs[0].recipe.data["content"] == {"sha256": "5" * 64}
    assert found.runs[0].recipe.data["test_fraction"] == 0.2


def _with_id(values: dict[str, object]) -> dict[str, object]:
    return {**values, "id": run_id(values)}


def test_whatever_the_files_of_a_run_say_can_be_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", clients=tuple(map(str, range(12))))
    values = read_json(run.partition_file)
    odd = {"shape": 5, "classes": None, "algorithm": [{"a": [1, [2]]}], "seed": {"x": 1e308}}
    write_json(run.partition_file, {**values, "parameters": odd})
    origin = {"data": [1], "scheme": ["a"], "parameters": {"x y": [[1], {"b": 2}]}, "data_seed": []}
    info = {**run.info.as_json(), "origin": origin}
    write_json(run.root / "run.json", _with_id(info))
    for client in run.info.clients:
        path = run.round(3).telemetry(client)
        write_json(path, {**read_json(path), "processor": f"\x1b[31m{client}"})
    found = report([Run.open(run.root)])
    text = terminal_text(found)
    assert "\x1b" not in text
    assert "\\x1b[31m0" in " ".join(text.split())
    assert "more" in text.split("hardware")[1]
    assert to_markdown(found)
