"""The wheel and the source distribution hold what users and packagers expect, and nothing else."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
import yaml

import fedcli

ROOT = Path(__file__).parent.parent
TOP = {
    *(".ci", ".gitignore", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE"),
    *("PKG-INFO", "README.md", "SECURITY.md", "docs", "examples", "fedcli", "pyproject.toml"),
    "tests",
}
_NOT_SOURCE = {".pyc", ".so"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(packages: Path) -> zipfile.ZipFile:
    [file] = packages.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.fixture(scope="module")
def source(packages: Path) -> set[str]:
    """The paths in the source distribution, without the folder that is around all of them."""
    [file] = packages.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def files_below(folder: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in _NOT_SOURCE
    }


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == files_below("fedcli")


@pytest.mark.parametrize("folder", ["docs", "examples", "fedcli", "tests"])
def test_the_source_distribution_is_complete(source: set[str], folder: str) -> None:
    assert {path for path in source if path.startswith(f"{folder}/")} == files_below(folder)


def test_the_source_distribution_has_no_clutter(source: set[str]) -> None:
    assert {path.partition("/")[0] for path in source} == TOP


def test_the_metadata_says_what_fedcli_is(wheel: zipfile.ZipFile) -> None:
    [name] = (name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = HeaderParser().parsestr(wheel.read(name).decode())
    assert metadata["Version"] == fedcli.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    [entry] = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "fedcli = fedcli.__main__:main" in wheel.read(entry).decode()


def test_the_version_is_the_latest_of_the_changelog_and_the_citation() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    latest = next(line for line in changelog.splitlines() if line.startswith("## "))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version, date = citation["version"], citation["date-released"]
    assert version == fedcli.__version__
    assert latest == f"## [{version}] - {date}"


def test_the_changelog_sorts_changes_by_their_kind() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    kinds = [line for line in changelog.splitlines() if line.startswith("### ")]
    known = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    assert kinds == [f"### {kind}" for kind in known if f"### {kind}" in kinds]


def test_the_version_is_declared_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
