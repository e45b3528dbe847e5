"""Groups of options: what typer sees of them, what a command and the plan are given."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from fedcli.cli import app, execute
from fedcli.cli.options.aggregation import AggregationOptions
from fedcli.cli.options.groups import Group, flattened
from fedcli.cli.options.training import TrainingOptions
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.run import Run

PROGRAM: Any = typer.main.get_command(app)


@dataclass(frozen=True)
class Shape(Group):
    width: Annotated[int | None, typer.Option("--width", "-w", min=1, help="How wide.")] = None
    filled: Annotated[bool | None, typer.Option(help="Whether it is filled.")] = None
    tags: Annotated[list[str] | None, typer.Option("--tag", help="A tag.")] = None


@dataclass(frozen=True)
class Pen(Group):
    colour: Annotated[str, typer.Option(help="The colour.")] = "black"


def draw(
    name: Annotated[str, typer.Argument(help="The name.")],
    *,
    shape: Shape,
    times: Annotated[int, typer.Option(help="How often.")] = 1,
    pen: Pen,
) -> None:
    """Draw a shape."""
    values = {"name": name, "times": times, "shape": asdict(shape), "given": shape.given()}
    print(json.dumps({**values, "pen": asdict(pen)}))


def drawn(line: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    program = typer.Typer(add_completion=False)
    program.command()(flattened(draw))
    program(line.split(), standalone_mode=False)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_a_command_gets_its_groups_whole(capsys: pytest.CaptureFixture[str]) -> None:
    values = drawn("box -w 3 --no-filled --tag a --tag b --times 2 --colour red", capsys)
    typed = {"width": 3, "filled": False, "tags": ["a", "b"]}
    assert values == {
        "name": "box",
        "times": 2,
        "shape": typed,
        "given": typed,
        "pen": {"colour": "red"},
    }


def test_what_was_not_typed_is_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    values = drawn("box", capsys)
    assert values["given"] == {}
    assert values["shape"] == {"width": None, "filled": None, "tags": None}
    assert values["pen"] == {"colour": "black"}


@pytest.mark.parametrize("line", ["box --width 0", "box --width wide", "box --shape 1", ""])
def test_a_wrong_option_is_refused_by_typer(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.TyperException):
        drawn(line, capsys)


def test_options_stand_where_their_group_stands() -> None:
    program = typer.Typer(add_completion=False)
    program.command()(flattened(draw))
    seen: Any = typer.main.get_command(program)
    names = [parameter.name for parameter in seen.params]
    assert names == ["name", "width", "filled", "tags", "times", "colour"]
    assert seen.help == "Draw a shape."


def test_two_options_of_one_name_are_a_mistake() -> None:
    def command(*, shape: Shape, width: int = 1) -> None:
        """Never called."""

    with pytest.raises(ValueError, match="width"):
        flattened(command)


# --- the plan ----------------------------------------------------------------------------------

TRAINING = TrainPlan(
    epochs=2,
    lr=0.5,
    batch_size=8,
    momentum=0.25,
    weight_decay=0.125,
    lr_schedule="cosine",
    lr_rounds=9,
    lr_warmup=2,
    clip_grad=1.5,
    label_smoothing=0.25,
    augment=("flip", "crop"),
    mixup=0.5,
    algorithm="moon",
    mu=0.5,
    temperature=0.25,
    proximal=0.125,
    freeze=("fc.bias",),
    precision="bf16",
    initial_loss=True,
)
OTHERS = [
    TrainPlan(steps=7, algorithm="scaffold", scaffold_option=1),
    TrainPlan(algorithm="feddyn", feddyn_alpha=0.5, optimizer="adamw"),
    TrainPlan(algorithm="ditto", ditto_lambda=0.5, lr_schedule="step", lr_every=3, lr_decay=0.5),
    TrainPlan(local_layers=("fc.bias",), head_epochs=1),
]
RULES = [
    AggregatePlan(
        reduce="trimmed-mean",
        weighting="uniform",
        trim=0.125,
        server_optimizer="yogi",
        server_lr=0.25,
        beta1=0.5,
        beta2=0.625,
        tau=0.125,
        bias_correction=True,
        clients_per_round=2,
    ),
    AggregatePlan("multi-krum", byzantine=1, keep=2, server_momentum=0.75, fraction=0.5),
    AggregatePlan("centered-clipping", clip_norm=3.0, iterations=4),
    AggregatePlan("rfa", smoothing=0.5, max_norm=2.5, max_examples=7),
    AggregatePlan("qfedavg", q=2.0),
    AggregatePlan("fedbuff", buffer=5, max_staleness=6),
]


def options_of(section: TrainPlan | AggregatePlan) -> str:
    """The options of which all are typed that are not None."""
    line = []
    values = asdict(section)
    if values.get("steps") is not None:
        del values["epochs"]  # they replace each other
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(option)
        elif value not in (None, False):
            text = ",".join(value) or "none" if isinstance(value, tuple) else str(value)
            line.append(f"{option} {text}")
    return " ".join(line)


@pytest.mark.parametrize(
    ("group", "section"), [(TrainingOptions, TrainPlan), (AggregationOptions, AggregatePlan)]
)
def test_every_key_of_the_plan_is_an_option(group: type[Any], section: type[Any]) -> None:
    assert {field.name for field in fields(group)} == {field.name for field in fields(section)}
    assert all(field.default is None for field in fields(group))


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("partition", (TrainingOptions, AggregationOptions)),
        ("init", (TrainingOptions, AggregationOptions)),
        ("run", (TrainingOptions, AggregationOptions)),
        ("train-client", (TrainingOptions,)),
        ("aggregate", (AggregationOptions,)),
    ],
)
def test_commands_have_the_groups(command: str, groups: tuple[type[Any], ...]) -> None:
    names = {parameter.name for parameter in PROGRAM.commands[command].params}
    assert {field.name for group in groups for field in fields(group)} <= names


def plan_of(options: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of a run that ``init`` makes with these options."""
    monkeypatch.chdir(directory)
    line = f"init --num-classes 2 --model linear --image-size 4 --quiet {options}"
    assert execute(line.split()) == 0
    return Run.open(Path("fedrun")).info.plan


@pytest.mark.parametrize("sections", [RULES, [TRAINING, *OTHERS]], ids=["rules", "training"])
def test_the_plans_above_use_every_option(sections: list[AggregatePlan | TrainPlan]) -> None:
    used = {name for one in sections for name, value in asdict(one).items() if value is not None}
    assert used == {field.name for field in fields(sections[0])}


@pytest.mark.parametrize("training", OTHERS, ids=options_of)
def test_what_init_is_told_of_training_is_the_plan_of_the_run(
    training: TrainPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = f"--clients a,b,c,d,e,f {options_of(training)}"
    assert plan_of(options, tmp_path, monkeypatch).train == training


@pytest.mark.parametrize("rule", RULES, ids=options_of)
def test_what_init_is_told_is_the_plan_of_the_run(
    rule: AggregatePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = f"--clients a,b,c,d,e,f {options_of(TRAINING)} {options_of(rule)}"
    assert plan_of(options, tmp_path, monkeypatch) == Plan(TRAINING, rule)


def test_options_win_over_the_plan_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[train]\nepochs = 3\nlr = 0.5\naugment = ["flip"]\ninitial_loss = true\n'
    text += '[aggregate]\nstrategy = "fedadam"\nbias_correction = true\nbeta1 = 0.5\n'
    (tmp_path / "plan.toml").write_text(text)
    options = "--plan plan.toml --epochs 4 --augment none --no-initial-loss --no-bias-correction"
    plan = plan_of(options, tmp_path, monkeypatch)
    assert plan == Plan(
        TrainPlan(epochs=4, lr=0.5),
        AggregatePlan(strategy="fedadam", bias_correction=False, beta1=0.5),
    )
