"""Whatever a user, a stranger's file or a user's model does: a result, or a refusal of one line."""

from pathlib import Path

import pytest
from support.strange_inputs import SPECIMENS, StrangeInput, faults, variations
from support.thorough import times

from fedcli.cli import execute
from fedcli.errors import UsageError
from fedcli.user_code import blamed, forget, load_attribute

pytestmark = [
    pytest.mark.usefixtures("unsynced"),
    pytest.mark.filterwarnings("ignore"),  # of libraries, about what they are given
]


def named(strange: StrangeInput) -> str:
    return f"{strange.kind}: {strange.name}".encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize("kind", ["model", "archive", "folder", "metadata"])
def test_specimens_end_well(kind: str, tmp_path: Path) -> None:
    walk([strange for strange in SPECIMENS if strange.kind == kind], tmp_path)


@pytest.mark.parametrize("part", range(4))
def test_variations_end_well(part: int, tmp_path: Path) -> None:
    walk(variations(times(3000, 300))[part::4], tmp_path)


def walk(inputs: list[StrangeInput], folder: Path) -> None:
    wrong = []
    for number, strange in enumerate(inputs):
        place = folder / str(number)
        place.mkdir()
        wrong += [f"{named(strange)}: {one}" for one in faults(strange, place)]
    assert not wrong, "\n".join(wrong)


def test_variations_are_the_same_every_time_and_of_every_kind() -> None:
    drawn = variations(300)
    assert [named(one) for one in drawn] == [named(one) for one in variations(300)]
    assert {one.kind for one in drawn} == {"model", "archive", "folder", "metadata", "claim"}
    assert len({named(one) for one in drawn}) == 300


class TestCodeOfTheUser:
    def test_is_blamed_with_file_and_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code = "def net(num_classes):\n    raise SystemExit('enough')\n"
        (tmp_path / "leaves.py").write_text(code)
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        line = ["partition", "--limit", "24", "--clients", "2", "--model", "leaves:net"]
        assert execute(line) == 2
        error = capsys.readouterr().err.splitlines()[0]
        assert error.startswith("error: --model leaves:net: ")
        assert "SystemExit: enough" in error

    def test_is_blamed_for_what_libraries_say_about_it(self) -> None:
        load_attribute("json:dumps", "--model")
        error = blamed(RuntimeError("element 0 of tensors does not require grad"))
        assert isinstance(error, UsageError)
        assert "--model json:dumps: failed: RuntimeError: element 0" in error.message

    def test_is_not_blamed_if_there_is_none(self) -> None:
        load_attribute("json:dumps", "--model")
        assert blamed(SystemExit(1)) is None
        forget()
        assert blamed(RuntimeError("x")) is None
