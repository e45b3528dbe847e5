"""Installation: its page names all extras, and the scripts choose a build of torch that fits."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from support.pages import ROOT

PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
_PYTHON = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
    "-m pip index versions torch") echo "torch (2.9.1)"; echo "Available versions: {versions}" ;;
    "-c import torch") exit {without_torch} ;;
    "-m pip install --editable "*) printf '#!/bin/sh\\n' > {bin}/fedcli; chmod +x {bin}/fedcli ;;
esac
"""


def installed(
    tmp_path: Path, versions: str, *, gpu: bool = False, torch: bool = False
) -> list[str]:
    """What the set-up asks of pip in an environment whose interpreter is a stand-in."""
    bin_, log = tmp_path / "venv" / "bin", tmp_path / "log"
    bin_.mkdir(parents=True)
    log.touch()
    text = _PYTHON.format(
        log=shlex.quote(str(log)), versions=versions, without_torch=int(not torch), bin=bin_
    )
    for name, content in {"python": text, **({"nvidia-smi": "#!/bin/sh\n"} if gpu else {})}.items():
        (bin_ / name).write_text(content)
        (bin_ / name).chmod(0o755)
    script = f'set -eu; . "{ROOT}/examples/setup.sh"; command -v fedcli'
    environment = {**os.environ, "FEDCLI_VENV": str(bin_.parent)}
    if gpu:
        environment["PATH"] = f"{bin_}:{environment['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script, f"{ROOT}/examples/quickstart.sh"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(bin_ / "fedcli")
    assert "torch is large" in done.stderr
    return [line for line in log.read_text().splitlines() if line.startswith("-m pip install")]


def test_the_page_names_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    table = PAGE.partition("## Extras")[2].partition("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.M)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert named == set(extras)


@pytest.mark.skipif(os.access("/usr/bin/nvidia-smi", os.X_OK), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_gets_the_cpu_build_that_the_index_offers(tmp_path: Path) -> None:
    torch, fedcli = installed(tmp_path, "2.9.1+cu130, 2.9.1+cpu, 2.9.1, 2.9.0+cpu")
    assert torch == "-m pip install torch==2.9.1+cpu torchvision"
    assert fedcli == f"-m pip install --editable {ROOT}[plots]"


@pytest.mark.parametrize(
    ("versions", "gpu", "torch"),
    [
        pytest.param("2.9.1, 2.9.0", False, False, id="no such build"),
        pytest.param("2.9.1+cpu, 2.9.1", True, False, id="a GPU"),
        pytest.param("2.9.1+cpu, 2.9.1", False, True, id="torch is there"),
    ],
)
def test_otherwise_torch_is_left_to_pip(
    tmp_path: Path, versions: str, gpu: bool, torch: bool
) -> None:
    asked = installed(tmp_path, versions, gpu=gpu, torch=torch)
    assert asked == [f"-m pip install --editable {ROOT}[plots]"]
