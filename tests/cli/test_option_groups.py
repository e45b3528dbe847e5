"""Groups of options: what typer sees of them, what a command and the plan are given."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from fedcli.cli import command_of, execute
from fedcli.cli.options.groups import Takes, flattened
from fedcli.cli.options.lists import names_with_commas
from fedcli.errors import UsageError
from fedcli.options import Given, check, declared, option
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.rule import aggregate_options
from fedcli.plan.train import TRAIN_OPTIONS
from fedcli.run import Run
from fedcli.security.noise_key import write_noise_key
from fedcli.text import listed

TRAINING_KEYS, RULE_KEYS = set(TRAIN_OPTIONS), set(aggregate_options())


@dataclass(frozen=True)
class Shape:
    width: int | None = option(None, "How wide.", "W", at_least=1, short="-w")
    filled: bool = option(False, "Whether it is filled.")
    tags: tuple[str, ...] = option((), "Tags.")
    sides: tuple[int, ...] = option((), "Sides.", at_least=1)
    lists: tuple[tuple[str, ...], ...] = option((), "Lists.", repeat=True)


@dataclass(frozen=True)
class Pen:
    colour: str = option("black", "The colour.", choices=("black", "red"))
    dry: bool = option(False, "Whether it is dry.", flag=True)

    def __post_init__(self) -> None:
        check(self)


def draw(
    name: Annotated[str, typer.Argument(help="The name.")],
    *,
    shape: Annotated[Given, Takes(lambda: declared(Shape), "Shape")],
    times: Annotated[int, typer.Option(help="How often.")] = 1,
    pen: Pen,
) -> None:
    """Draw a shape."""
    print(json.dumps({"name": name, "times": times, "shape": dict(shape), "pen": asdict(pen)}))


def drawn(line: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    program = typer.Typer(add_completion=False)
    program.command()(flattened(draw))
    program(line.split(), standalone_mode=False)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_a_command_gets_its_groups_whole(capsys: pytest.CaptureFixture[str]) -> None:
    line = "box -w 3 --no-filled --tags a,b --sides 1,2 --lists x,y --lists ,z --times 2"
    assert drawn(line, capsys) == {
        "name": "box",
        "times": 2,
        "shape": {
            "width": 3,
            "filled": False,
            "tags": ["a", "b"],
            "sides": [1, 2],
            "lists": [["x", "y"], ["", "z"]],
        },
        "pen": {"colour": "black", "dry": False},
    }


def test_what_was_not_typed_is_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    values = drawn("box --tags none", capsys)
    assert values["shape"] == {"tags": []}
    assert values["pen"] == {"colour": "black", "dry": False}


@pytest.mark.parametrize("line", ["box --width wide", "box --shape 1", "box --no-dry", ""])
def test_a_wrong_option_is_refused_by_typer(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.TyperException):
        drawn(line, capsys)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("box --sides 1,x", "--sides: expected numbers such as 100,200,700, found '1,x'"),
        ("box --colour blue", "--colour: unknown value 'blue'; known: black, red"),
    ],
)
def test_a_wrong_value_is_refused_by_its_declaration(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=words):
        drawn(line, capsys)


def test_options_stand_where_their_group_stands() -> None:
    program = typer.Typer(add_completion=False)
    program.command()(flattened(draw))
    seen: Any = typer.main.get_command(program)
    names = [parameter.name for parameter in seen.params]
    shape = ["width", "filled", "tags", "sides", "lists"]
    assert names == ["name", *shape, "times", "colour", "dry"]
    assert {p.rich_help_panel for p in seen.params if p.name in shape} == {"Shape"}
    assert seen.help == "Draw a shape."


def test_two_options_of_one_name_are_a_mistake() -> None:
    def command(*, shape: Annotated[Given, Takes(lambda: declared(Shape))], width: int = 1) -> None:
        """Never called."""

    with pytest.raises(ValueError, match="width"):
        flattened(command)


# --- the plan ----------------------------------------------------------------------------------

TRAINING = TrainPlan.of(
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
    TrainPlan.of(steps=7, algorithm="scaffold", scaffold_option=1),
    TrainPlan.of(algorithm="feddyn", feddyn_alpha=0.5, optimizer="adamw"),
    TrainPlan.of(algorithm="ditto", ditto_lambda=0.5, lr_schedule="step", lr_every=3, lr_decay=0.5),
    TrainPlan(local_layers=("fc.bias",), head_epochs=1),
    TrainPlan(encode="topk=0.25,float16", feedback=0.5),
    TrainPlan(dp="example", clip=0.5, noise_multiplier=1.5),
    TrainPlan(
        dp="example", clip=0.5, target_epsilon=3.0, target_rounds=4, delta=1e-4, max_epsilon=5.0
    ),
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
    AggregatePlan(encode_global="round=0.125", feedback_global=0.5),
    AggregatePlan("fedadam", update_clip=0.25, update_noise=1.5, relation="replace"),
    AggregatePlan(update_clip=0.25, update_noise=9.0, update_max_epsilon=4.0, update_delta=1e-4),
    AggregatePlan(
        update_noise=0.5, update_divisor=7.0, adaptive_clip=0.75, clip_lr=0.125, count_noise=0.5
    ),
]


def flat(section: TrainPlan | AggregatePlan) -> dict[str, Any]:
    values = asdict(section)
    return values | values.pop("algorithm_options", {})


def options_of(section: TrainPlan | AggregatePlan) -> str:
    """The options of which all are typed that are not None."""
    line = []
    values = flat(section)
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


def test_every_key_of_the_plan_is_an_option() -> None:
    assert flat(TRAINING).keys() <= TRAINING_KEYS
    assert {field.name for field in fields(AggregatePlan)} == RULE_KEYS


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("partition", TRAINING_KEYS | RULE_KEYS),
        ("init", TRAINING_KEYS | RULE_KEYS),
        ("run", TRAINING_KEYS | RULE_KEYS),
        ("train-client", TRAINING_KEYS),
        ("aggregate", RULE_KEYS),
    ],
)
def test_commands_have_the_groups(command: str, keys: set[str]) -> None:
    parameters = command_of(command).params
    assert keys <= {parameter.name for parameter in parameters}
    assert {p.default for p in parameters if p.name in keys} == {None}


def plan_of(options: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of a run that ``init`` makes with these options."""
    monkeypatch.chdir(directory)
    if "--update-noise" in options:
        write_noise_key(Path("noise.key"), outside=Path("fedrun"), force=True)
        options += " --noise-key noise.key"
    line = f"init --num-classes 2 --model linear --image-size 4 --quiet {options}"
    assert execute(line.split()) == 0
    return Run.open(Path("fedrun")).info.plan


@pytest.mark.parametrize("sections", [RULES, [TRAINING, *OTHERS]], ids=["rules", "training"])
def test_the_plans_above_use_every_option(sections: list[AggregatePlan | TrainPlan]) -> None:
    used = {name for one in sections for name, value in flat(one).items() if value is not None}
    assert used == (RULE_KEYS if isinstance(sections[0], AggregatePlan) else TRAINING_KEYS)


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


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("benign,malignant", ("benign", "malignant")),
        ("benign, malignant", ("benign", "malignant")),
        ('"Melanoma, NOS",nevus', ("Melanoma, NOS", "nevus")),
        ("Melanoma, NOS,nevus", ("Melanoma, NOS", "nevus")),  # as a shell passes on the above
        ('nevus, "Melanoma, NOS"', ("nevus", "Melanoma, NOS")),
        ('"a ""b""", c', ('a "b"', "c")),
        ('5" lesion,b', ('5" lesion', "b")),
        ("a,,b", ("a", "", "b")),
    ],
)
def test_a_name_may_hold_a_comma(text: str, names: tuple[str, ...]) -> None:
    assert names_with_commas(text) == names
    if all(names):
        assert names_with_commas(listed(names, ",")) == names
        assert names_with_commas(listed(names)) == names


@pytest.mark.parametrize("text", ['"Melanoma,nevus', '"a"b,c'])
def test_a_quote_that_does_not_end_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a list of names"):
        names_with_commas(text)
