"""A network that draws from a global generator gives the same bytes every time."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.own_code import write_module

from fedcli.formats.evaluation import Evaluation
from fedcli.models.generators import GeneratorStates, seeded_generators
from fedcli.run import Run

Cli = Callable[..., tuple[int, str, str]]

DRAWING = """
import random
import numpy as np
import torch
from torch import nn

class Drawing(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.size = random.randint(4, 9)
        self.scale = torch.rand(()) + 0.5
        self.fc = nn.Linear(self.size, num_classes)
        self.project = torch.from_numpy(np.random.rand(3 * 32 * 32, self.size)).float()

    def forward(self, x):
        noise = random.random() + np.random.normal() + torch.rand(()) * self.scale
        return self.fc(x.flatten(1) @ self.project) * (1 + 0.1 * noise)
"""


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_all_generators_are_seeded_and_put_back() -> None:
    with seeded_generators(7):
        inside = draws()
    before = GeneratorStates.now()
    expected = draws()
    before.restore()
    with seeded_generators(7):
        assert draws() == inside
    assert draws() == expected
    before.restore()
    with seeded_generators(8):
        assert all(one != other for one, other in zip(draws(), inside, strict=True))


@pytest.fixture
def drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a network that draws from three generators when it is built and called."""
    write_module(monkeypatch, tmp_path, "drawing_nets", DRAWING)
    return "drawing_nets:Drawing"


def study(cli: Cli, root: Path, model: str) -> dict[str, bytes]:
    """Make a run of one round; return its models, updates and scores."""
    options = ("--dataset", "synthetic", "--limit", 90, "--initial-loss")
    made = cli("partition", "--run", root, "--model", model, *options)
    assert made[0] == 0, made
    random.seed()  # as in another process
    np.random.seed()
    torch.seed()
    for id_ in "012":
        trained = cli("train-client", "--run", root, "--id", id_, "--model", model)
        assert trained[0] == 0, trained
    assert cli("aggregate", "--run", root)[0] == 0
    assert cli("evaluate", "--run", root, "--model", model)[0] == 0
    round_ = Run.open(root).round(1)
    files = [*round_.updates.glob("*.safetensors"), round_.global_model]
    evaluation = Evaluation.read(round_.evaluation)
    assert evaluation is not None
    scores = [(score.loss, score.accuracy) for score in evaluation.results]
    return {path.name: path.read_bytes() for path in files} | {"scores": repr(scores).encode()}


def test_two_runs_of_a_network_that_draws_are_equal_and_replay(
    cli: Cli, tmp_path: Path, drawing: str
) -> None:
    assert study(cli, tmp_path / "one", drawing) == study(cli, tmp_path / "two", drawing)
    status, out, err = cli("verify", "--run", tmp_path / "one", "--replay", "--model", drawing)
    assert status == 0, out + err
