"""What the directory of a private run tells of a client's data: nothing but what noise covers.

Each test trains the same client twice, on data that differ, and compares everything that a reader
sees, field by field.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.masked_runs import MEMBERS, masked_run
from support.networks import pictures
from support.published import Place, differences

from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.security.noise_key import write_noise_key
from fedcli.setup.start import Start
from fedcli.steps.aggregate import aggregate
from fedcli.steps.init import init
from fedcli.steps.train_client import train_client

TRAIN = TrainPlan(epochs=2, batch_size=8, lr=0.05)
PRIVATE = TRAIN.with_options({"dp": "example", "clip": 0.5, "noise_multiplier": 1.0})
COUNT = 40
WITHIN, BEYOND = COUNT + 1, COUNT + 20  # counts of the same public rate, and of another one

# what may differ, by file and field, and why it tells nothing
VOLATILE = {
    (r"rounds/0001/updates/\w+\.json", "created"): "the time of day",
    (r"rounds/0001/aggregate\.json", "seconds"): "how long the coordinator took",
}
COVERED = {
    (r"rounds/0001/updates/a\.safetensors", r"tensor .+"): "noise, or masks, cover them",
    (r"rounds/0001/updates/a\.safetensors", r"training\.examples"): "a digest with a secret key",
    (r"rounds/0001/global\.safetensors", r"tensor .+"): "computed from covered tensors alone",
    (
        r"rounds/0001/.+",
        r"(.+\.)?(sha256|global|base|updates\.a|partials\.sum)",
    ): "SHA-256s of covered files",
    (r"rounds/0001/aggregate\.json", r".+\.(norm|cosine|distance)"): "computed from them",
}
RATE = {
    (r"rounds/0001/updates/a\.safetensors", r"training\.(steps|privacy\.(q|count))"): (
        "steps of a rate that is a power of 2^(1/8)"
    ),
    (r"rounds/0001/aggregate\.json", r"accepted\.a\.steps"): "the same steps",
}
SPENT = {
    (r"rounds/0001/aggregate\.json", r"privacy\.0\.inputs"): "a SHA-256 of updates and options"
}
MASKED = {
    (r"rounds/0001/updates/a\.(shares|sig)", ".+"): "sealed shares, and a signature of SHA-256s",
    (r"rounds/0001/(survivors\.json|global\.sig|unmask/\w+\.json)", ".+"): "signed SHA-256s",
    (r"rounds/0001/sum\.safetensors", "tensor .+"): "the sum that the members open",
}


def unexplained(found: Iterable[Place], *allowed: dict[tuple[str, str], str]) -> set[Place]:
    rules = [rule for one in allowed for rule in one]
    return {
        (file, field)
        for file, field in found
        if not any(re.fullmatch(f, file) and re.fullmatch(n, field) for f, n in rules)
    }


def data(folder: Path, count: int) -> Path:
    """Write pictures of a client: others than with another count, and other labels."""
    x, y = (values.numpy() for values in pictures(count))
    path = folder / f"{count}.npz"
    np.savez(path, x=x, y=y)
    return path


class Federation:
    """A run without data in it, whose client a has its own, and its keys and states elsewhere."""

    def __init__(self, folder: Path, train: TrainPlan, how: str) -> None:
        self.folder, self.train, self.hides = folder, train, how == "client level"
        folder.mkdir(exist_ok=True)
        self.noise = write_noise_key(folder / "noise.key", outside=Path("x")).path
        self.members = masked_run(folder, train=train) if how == "masked" else None
        if self.members is None:
            rule = AggregatePlan(update_clip=0.5, update_noise=1.0) if self.hides else None
            start = Start(ModelInfo("linear"), plan=Plan(train, rule or AggregatePlan()))
            key = self.noise if self.hides else None
            root = folder / "fedrun"
            init(root, "xy", clients=MEMBERS[:3], image_size=8, start=start, noise_key=key)
        else:
            shutil.rmtree(self.members.run.root / "data")
        (folder / "fedrun").rename(folder / "template")

    def round_of(self, count: int) -> Path:
        """Play a round in which client a has so many examples; return the run directory."""
        root = self.folder / "fedrun"
        for answered in (*self.folder.glob("*.answered"), *self.folder.glob("*.closed")):
            shutil.rmtree(answered)  # nobody has seen the other round
        shutil.copytree(self.folder / "template", root)
        run = Run.open(root)
        for client in run.info.clients:
            self._train(run, client, data(self.folder, count if client == "a" else 33))
        self._finish(run)
        if self.hides:  # from everybody who does not read updates
            shutil.rmtree(run.round(1).updates)
        target = self.folder / f"run {count}"
        return root.rename(target)

    def _train(self, run: Run, client: str, own: Path) -> None:
        execution = Execution(threads=1, state=self.folder / "state" / client)
        key = self.members.keys[client].path if self.members else None
        noise = self.noise if self.train.dp else None
        train_client(run, [client], data=str(own), execution=execution, key=key, noise_key=noise)

    def _finish(self, run: Run) -> None:
        if self.members is None:
            aggregate(run, noise_key=self.noise if self.hides else None)
            return
        made = replace(self.members, run=run)
        made.close()
        for client in run.info.clients:
            made.unmask(client)
        made.aggregate()


CASES: dict[str, tuple[TrainPlan, str, tuple[dict[tuple[str, str], str], ...]]] = {
    "example level": (PRIVATE, "plain", (COVERED,)),
    "client level": (TRAIN, "client level", (COVERED, SPENT)),
    "masked": (TRAIN, "masked", (COVERED, MASKED)),
    "both": (PRIVATE, "masked", (COVERED, MASKED)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_another_number_of_examples_changes_only_what_is_covered(
    tmp_path: Path, case: tuple[Any, ...]
) -> None:
    train, how, allowed = case
    made = Federation(tmp_path / "parties", train, how)
    runs = {count: made.round_of(count) for count in (COUNT, WITHIN, BEYOND)}
    found = differences(runs[COUNT], runs[WITHIN])
    assert len(found) > 5
    assert unexplained(found, VOLATILE, *allowed) == set()
    assert unexplained(differences(runs[COUNT], runs[BEYOND]), VOLATILE, RATE, *allowed) == set()


def test_a_plain_run_shows_what_private_ones_withhold(tmp_path: Path) -> None:
    """Else the test above might look in the wrong places."""
    made = Federation(tmp_path / "parties", TRAIN, "plain")
    runs = [made.round_of(count) for count in (COUNT, BEYOND)]
    fields = {field for _, field in unexplained(differences(*runs), VOLATILE, COVERED, RATE)}
    for field in ("num_examples", "accepted.a.num_examples", "accepted.a.weight", "epochs.0.loss"):
        assert field in fields
