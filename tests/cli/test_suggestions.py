"""What is mistyped gets one line that says what was meant."""

from pathlib import Path

import pytest

from fedcli.cli import COMMANDS, execute, suggestions
from fedcli.cli.commands.export import export
from fedcli.cli.commands.report import report
from fedcli.cli.options.groups import declarations_of
from fedcli.completion.catalogue import options
from fedcli.plan.stopping import SCORES
from fedcli.reporting.metric import METRICS
from fedcli.reporting.plots import COLUMNS, FORMATS
from fedcli.steps.export import SUFFIXES

COMMAND_LINES = [
    ("trian-client --id 0", "train-client"),
    ("train --id 0", "train-client"),
    ("fit", "train-client"),
    ("partion", "partition"),
    ("split --clients 3", "partition"),
    ("agregate", "aggregate"),
    ("average", "aggregate"),
    ("eval", "evaluate"),
    ("verfiy", "verify"),
    ("key-gen", "keygen"),
    ("ls", "status"),
    ("Status", "status"),
    ("simulate", "run"),
]
OPTIONS = [
    ("partition --shceme iid", "--scheme"),
    ("partition --batchsize 8", "--batch-size"),
    ("train-client --batch_size 8", "--batch-size"),
    ("train-client --epoch 1", "--epochs"),
    ("train-client --learningrate 1", "--learning-rate"),
    ("train-client --gpu 0", "--device"),
    ("train-client --client 0", "--id"),
    ("train-client --wd 0.1", "--weight-decay"),
    ("run --round 3", "--rounds"),
    ("run --workers 3", "--jobs"),
    ("init --n-clients 5", "--clients"),
    ("init --labels a,b", "--classes"),
    ("partition --data cifar10", "--dataset"),
    ("partition --test-size 0.2", "--test-fraction"),
    ("export --out model.onnx", "--output"),
]
ELSEWHERE = [
    ("train-client --alpha 0.5 --id 0", "--alpha is an option of partition or sweep"),
    ("aggregate --learning-rate 1", "--learning-rate is an option of partition, init"),
    ("--scheme iid partition", "it comes after the command: fedcli partition --scheme"),
    ("partition --strategy fedprox", "did you mean --algorithm fedprox?"),
    ("partition --algorithm krum", "did you mean --strategy krum, or --reduce krum?"),
    ("partition --strategy adam", "did you mean fedadam, or --optimizer adam, or --server-optim"),
    ("partition --dataset pictures", "--dataset imagefolder:pictures"),
    (
        "partition --limit 40 --model arrays.npz",
        "a network by its name, and --init-from arrays.npz",
    ),
    ("partition --strategy rules:median", "a function of your own is a reducer: --reduce rules:"),
    ("partition --dataset arrays.npz", "--dataset npz:arrays.npz"),
]
VALUES = [
    ("partition --scheme dirichelt", "dirichlet"),
    ("partition --dataset cifar", "cifar10"),
    ("partition --dataset fahsion_mnist", "fashion-mnist"),
    ("partition --algorithm fedporx", "fedprox"),
    ("partition --optimizer adm", "adam"),
    ("partition --lr-schedule cos", "cosine"),
    ("partition --augment flip,cut", "cutout"),
    ("partition --encode tpok=0.1", "topk=SHARE[,float16]"),
    ("partition --strategy trimmed", "trimmed-mean"),
    ("partition --limit 40 --model resnt18", "resnet18"),
    ("partition --limit 40 --model vgg11bm", "vgg11_bn"),
    ("partition --stem cifar10", "cifar"),
]
FILES = [
    ("[train]\nlearning_rate = 0.1", "did you mean lr?"),
    ("[train]\nepoch = 1", "did you mean epochs?"),
    ("[train]\nbatchsize = 1", "did you mean batch_size?"),
    ("[trian]\nlr = 1", "did you mean train?"),
    ("[train]\nalpha = 1", "alpha belongs in [partition]"),
    ('[train]\nalgorithm = "fedporx"', "did you mean fedprox?"),
    ('[aggregate]\nstrategy = "fedprox"', "did you mean --algorithm fedprox?"),
]
LINES = [
    *((line, f"did you mean {meant}?") for line, meant in COMMAND_LINES + OPTIONS + VALUES),
    *ELSEWHERE,
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "arrays.npz").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of a refusal, as a user error."""
    assert execute(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


@pytest.mark.parametrize(("line", "hint"), LINES)
def test_a_mistyped_line_is_told_what_was_meant(
    line: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error, meant = said(line.split(), capsys)
    assert error.startswith("error: ")
    assert meant.startswith(f"hint: {hint}")


@pytest.mark.parametrize(("text", "hint"), FILES)
def test_a_mistyped_file_is_told_what_was_meant(
    text: str, hint: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "plan.toml").write_text(text, encoding="utf-8")
    error, meant = said(["partition", "--plan", "plan.toml"], capsys)
    assert error.startswith("error: plan.toml: ")
    assert meant == f"hint: {hint}"


def test_there_are_forty_of_them() -> None:
    assert len(LINES) + len(FILES) >= 40


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("xyzzy", "fedcli has no command 'xyzzy'"),
        ("--xyzzy", "--xyzzy: is not an option of fedcli"),
        ("gc --xyzzy", "--xyzzy: is not an option of gc"),
        ("gc", "--keep-last: must be given"),
        ("inspect", "FILE: must be given"),
        ("gc --keep-last x", "--keep-last: expected a whole number, found 'x'"),
        ("partition --lr=x", "--lr: expected a number, found 'x'"),
        ("gc --keep-last 0", "--keep-last: input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_option(
    line: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(line.split(), capsys)
    assert lines[0] == f"error: {error}"
    assert lines[1].startswith("hint: fedcli ")


def test_what_other_programs_say_leads_to_what_exists() -> None:
    known = {word for command in COMMANDS for word in options(command)}
    assert {*suggestions._COMMANDS.values()} <= {*COMMANDS}
    assert not {*suggestions._COMMANDS} & {*COMMANDS}
    assert {word for words in suggestions._OPTIONS.values() for word in words} <= known


def test_the_words_of_options_are_those_of_the_rooms_that_use_them() -> None:
    assert {*SCORES} == {*METRICS}
    assert declarations_of(export)["--format"].known == (*SUFFIXES,)
    assert declarations_of(report)["--format"].known == FORMATS
    assert declarations_of(report)["--width"].known == (*COLUMNS,)
