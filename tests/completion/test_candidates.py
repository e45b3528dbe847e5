"""What can stand at the cursor, from the catalogue and from the run that a line is about."""

import json
from pathlib import Path

import pytest
from support.runs import python

from fedcli.cli.catalogue import catalogue_text
from fedcli.completion.candidates import candidates
from fedcli.completion.catalogue import FILE, commands_with, options_that_take
from fedcli.completion.shells import answer


def words(line: str, **environ: str) -> list[str]:
    *typed, start = line.split(" ")
    return [one.word for one in candidates(typed, start, environ)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    updates = tmp_path / "fedrun" / "rounds" / "0001" / "updates"
    updates.mkdir(parents=True)
    (updates / "late.safetensors").touch()
    (updates.parent.parent / "0000").mkdir()
    record = {"clients": ["0", "10", "st-mary"]}
    (tmp_path / "fedrun" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "sweep" / "case").mkdir(parents=True)
    (tmp_path / "sweep" / "case" / "run.json").touch()
    (tmp_path / "data").mkdir()
    return tmp_path / "fedrun"


def test_the_catalogue_is_that_of_the_declarations() -> None:
    assert FILE.read_text(encoding="utf-8") == catalogue_text(), "python docs/option_tables.py"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ini", ["init"]),
        ("--v", ["--version"]),
        ("help unm", ["unmask"]),
        ("nonsense --", []),
        ("gc --dry", ["--dry-run"]),
        ("init --num-cl", ["--num-classes"]),
        ("partition --num-cl", ["--num-clients"]),
        ("run --no-ev", ["--no-evaluate"]),
        ("init --model VGG-11", ["vgg11", "vgg11_bn"]),
        ("partition --augment flip,", ["flip,crop", "flip,cutout"]),
        ("train-client --augment crop,flip,c", ["crop,flip,cutout"]),
        ("partition --dataset i", ["imagefolder:", "imagenette", "imagenet"]),
        ("evaluate --round la", ["latest"]),
        ("report --width=", ["--width=one", "--width=two"]),
        ("run --target ", []),
        ("report --html ", []),
    ],
)
def test_words_of_the_catalogue(line: str, expected: list[str]) -> None:
    assert words(line) == expected


def test_words_of_a_run(run: Path) -> None:
    assert words("status --run ") == ["fedrun", "sweep/"]
    assert words("report sweep/") == ["sweep/case"]
    assert words("train-client --id ") == ["all", "0", "10", "st-mary"]
    assert words("aggregate --exclude 0,s") == ["0,st-mary"]
    assert words("evaluate --round ") == ["latest", "all", "1", "0"]
    assert words("unmask --run sweep/case --run fedrun --id st") == ["st-mary"]
    assert words("train-client --run sweep/case --id ") == []
    assert words("train-client --id s", FEDCLI_RUN=str(run)) == ["st-mary"]
    run.rename("moved")
    (Path("moved") / "run.json").write_text("{}", encoding="utf-8")
    assert words("train-client -r moved --id ") == ["all", "late"]


@pytest.mark.parametrize("text", ["", "[", "[]", '{"clients": 3}', '{"clients": [["a"], null]}'])
def test_a_run_that_cannot_be_read_completes_nothing(run: Path, text: str) -> None:
    (run / "run.json").write_text(text, encoding="utf-8")
    for update in run.glob("rounds/*/updates/*"):
        update.unlink()
    assert words("train-client --id ") == []


def test_ids_that_a_stranger_chose_are_ids(run: Path) -> None:
    record = {"clients": ["$(id)", "a b", "\x1b[2J", "--force", "ok"]}
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert words("train-client --id ") == ["all", "ok"]


def test_it_imports_no_other_room_and_no_library() -> None:
    code = """
import os, sys
os.environ |= {"_FEDCLI_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
os.environ["COMP_WORDS"] = "fedcli partition --scheme dir"
from fedcli.__main__ import main
try:
    main()
except SystemExit:
    rooms = {name.split(".")[1] for name in sys.modules if name.startswith("fedcli.")}
    print(sorted(rooms), "typer" in sys.modules, "numpy" in sys.modules)
"""
    assert python(code).out.splitlines() == [
        "dirichlet", "['__main__', 'completion', 'spelling'] False False",
    ]  # fmt: skip


def test_every_shell_gets_its_own_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def asked(shell: str, line: str, **more: str) -> tuple[str, int] | None:
        variables = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        variables |= {"_FEDCLI_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
        return answer({**variables, **more})

    line = "fedcli partition --dataset imagef"
    assert asked("bash", line) == ("imagefolder:\nimagefolder:…", 0)
    run = "fedcli\ntrain-client\n--run\n=\n'a run'\n--id\n"
    assert asked("bash", run, COMP_CWORD="6") == ("", 0)
    Path("a run").mkdir()
    (Path("a run") / "run.json").write_text('{"clients": ["st-mary"]}', encoding="utf-8")
    assert asked("bash", run, COMP_CWORD="6") == ("all\nst-mary", 0)
    assert asked("bash", "fedcli\nstatus\n--run\n=\na", COMP_CWORD="4") == ("'a run'", 0)
    assert asked("bash", "fedcli\ninit\n--optimizer\n=", COMP_CWORD="3") == ("sgd\nadam\nadamw", 0)
    assert asked("bash", "fedcli\ninit\n--model\na\n:\nb", COMP_CWORD="5") == ("", 0)
    assert asked("zsh", line) == ("compadd -U -S '' -- imagefolder:", 0)
    assert asked("fish", line) == ("imagefolder:", 0)
    assert asked("powershell", line) == ("imagefolder:::: ", 0)
    assert asked("zsh", "fedcli check --data x") == ("_files", 0)
    gone = asked("fish", "fedcli check --data x", _TYPER_COMPLETE_FISH_ACTION="is-args")
    assert gone == ("", 1)
    assert asked("tcsh", line) is None
    assert answer({"_FEDCLI_COMPLETE": "source_bash"}) is None


def test_where_a_word_belongs() -> None:
    assert options_that_take("fedprox") == ["--algorithm"]
    assert options_that_take("xyzzy") == []
    assert commands_with("--alpha") == ["partition", "sweep"]
    assert "run" in commands_with("--num-rounds")
