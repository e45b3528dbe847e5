"""The file of an experiment: what it may say, and every fault of it at once."""

from pathlib import Path

import pytest

from fedcli.errors import NotReadyError, UsageError
from fedcli.experiment.file import read_experiment


def refused(tmp_path: Path, text: str) -> str:
    file = tmp_path / "e.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_experiment(file)
    assert "\n" not in caught.value.message
    assert caught.value.path == file
    assert caught.value.message.startswith(f"{file}: ")
    return f"{caught.value.reason} [{caught.value.hint}]"


def test_values_have_the_types_of_their_options(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text(
        '[data]\ndata_dir = "pictures"\n[partition]\nlabels = [["0", "1"], ["2"]]\n'
        '[train]\nlr = 1\naugment = ["flip"]\n[run]\njobs = "auto"\n[sweep]\nseed = "0-2"\n'
    )
    found = read_experiment(file)
    assert found.settings == {
        "data": {"data_dir": Path("pictures")},
        "partition": {"labels": (("0", "1"), ("2",))},
        "train": {"lr": 1.0, "augment": ("flip",)},
        "run": {"jobs": None},
    }
    assert isinstance(found.settings["train"]["lr"], float)
    assert found.sweep == {"seed": "0-2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[trian]\nlr = 1", "unknown section 'trian' [did you mean train?]"),
        ("[server]", "unknown section 'server' [None]"),
        ("train = 3", "[train]: expected a section, found 3 [None]"),
        ("sweep = 3", "[sweep]: expected a section, found 3 [None]"),
        ("lr = 0.1", "lr: stands in no section [lr belongs in [train]]"),
        ("[train]\nbatchsize = 1", "[train] has an unknown key 'batchsize' [did you mean batch"),
        ("[train]\nalpha = 1", "unknown key 'alpha' [alpha belongs in [partition]]"),
        ("[run]\nlr = 1", "[run] has an unknown key 'lr' [lr belongs in [train]]"),
        ("[model]\nlimit = 1", "[model] has an unknown key 'limit' [limit belongs in [data]]"),
        ("[train]\nepochs = 1.5", "[train] epochs: expected int, found 1.5 [None]"),
        ("[train]\nepochs = 0", "[train] epochs: expected 1 or more, found 0 [None]"),
        ('[run]\njobs = "all"', "[run] jobs: expected int, found 'all' [None]"),
        ('[data]\ntest_split = "none"', "[data] test_split: unknown value 'none'; known: server"),
        ("[train", "not a TOML file"),
    ],
)
def test_a_fault_is_said_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    said = refused(tmp_path, "lr = 1\n[train]\nepochs = 0\nalpha = 1\n[data]\nlimt = 5\n[tran]\n")
    assert said == (
        "5 faults: lr: stands in no section (lr belongs in [train]);"
        " [train] epochs: expected 1 or more, found 0;"
        " [train] has an unknown key 'alpha' (alpha belongs in [partition]);"
        " [data] has an unknown key 'limt' (did you mean limit?);"
        " unknown section 'tran' (did you mean train?) [None]"
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError):
        read_experiment(tmp_path / "e.toml")
