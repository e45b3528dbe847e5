"""What is tried when a run is made is what training does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.own_code import write_module

from fedcli.errors import UsageError
from fedcli.models import build
from fedcli.models.weights import initial_tensors, load_arrays
from fedcli.run.info import ModelInfo

SHAPE = (3, 4, 4)
CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first, self.out = nn.Linear(48, 6), nn.Linear(6, num_classes)

    def forward(self, x):
        return self.out(torch.relu(self.first(x.flatten(1))))

class Lazy(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.first = nn.LazyLinear(6)

class Tuple(Net):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits

class Fails(Net):
    def forward(self, x):
        if self.training:
            raise KeyError("mode")
        return super().forward(x)

class SecondFails(Net):
    seen = 0

    def forward(self, x):
        if self.training:
            self.seen = self.seen or len(x)
            assert len(x) == self.seen, "another batch"
        return super().forward(x)

class Buffer(Net):
    def forward(self, x):
        if self.training:
            self.register_buffer("seen", torch.zeros(len(x)))
        return super().forward(x)

class Extra(Net):
    def get_extra_state(self):
        return {"a": 1}

class Old(Net):  # weight_norm cannot be deep-copied; inputs are named; no statistics
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.first = nn.utils.weight_norm(nn.Linear(3072, 6))
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)

    def forward(self, x):
        return self.out(input=self.norm(self.first(x.flatten(1))))

class InPlace(Net):
    def forward(self, x):
        hidden = self.first(x.flatten(1)).exp()
        hidden += 1
        return self.out(hidden)
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(monkeypatch, tmp_path, "triednets", CODE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Tuple", r"expected an output of shape \[3, 4\] in training too, found tuple"),
        ("Fails", r"makes it fail in training: KeyError: 'mode' \(triednets.py, line 26\)"),
        ("SecondFails", "makes it fail in training: AssertionError: another batch"),
        ("InPlace", "makes it fail in training: RuntimeError: one of the variables"),
        ("Buffer", "its forward creates or resizes tensor 'seen' in training"),
        ("Extra", "holds '_extra_state', which is not a tensor"),
    ],
)
def test_what_training_would_refuse_is_refused_when_the_run_is_made(
    name: str, message: str
) -> None:
    own = f"triednets:{name}"
    with pytest.raises(UsageError, match=f"--model {own}.*{message}"):
        initial_tensors(ModelInfo(own), 4, SHAPE, 0, own_factory=own)


def test_lazy_layers_have_their_shapes_wherever_the_network_is_built() -> None:
    own = "triednets:Lazy"
    first = initial_tensors(ModelInfo(own), 4, SHAPE, 0, own_factory=own)
    assert first.tensors["first.weight"].shape == (6, 48)
    load_arrays(build(ModelInfo(own), 4, SHAPE, own=own, seed=1), first.tensors, Path("global"))


def test_the_trial_leaves_no_trace_in_the_weights() -> None:
    own = "triednets:Net"
    tried = initial_tensors(ModelInfo(own), 4, SHAPE, 0, own_factory=own).tensors
    fresh = build(ModelInfo(own), 4, SHAPE, own=own, seed=0).state_dict()
    assert all(np.array_equal(tried[name], fresh[name].numpy()) for name in fresh)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("algorithm", ["moon", "ditto", "scaffold"])
def test_what_the_trial_accepts_can_be_trained(
    cli: Callable[..., tuple[int, str, str]], algorithm: str
) -> None:
    own = ("--model", "triednets:Old")
    options = ("--limit", 90, "--algorithm", algorithm)
    assert cli("partition", *own, *options)[0] == 0
    for _ in range(3):
        trained = cli("train-client", "--id", "all", *own)
        assert trained[0] == 0, trained
        aggregated = cli("aggregate")
        assert aggregated[0] == 0, aggregated
