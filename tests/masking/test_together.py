"""Masked rounds together with what still works: server optimizers, layers, samples, deltas."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from support.masked_runs import CLIP, MEMBERS, ONE_THREAD, TRAIN, MaskedRun, masked_run

from fedcli.cli import execute
from fedcli.errors import UsageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind, Role
from fedcli.masking.maskable import check_roles
from fedcli.plan import AggregatePlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.sampling import sampled_clients
from fedcli.steps.keygen import keygen
from fedcli.steps.report import report
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import verify

pytestmark = pytest.mark.usefixtures("unsynced")


def values(path: Path, kind: Kind = Kind.GLOBAL) -> dict[str, np.ndarray]:
    with Checkpoint(path, kind) as found:
        return found.tensors()


def open_round(made: MaskedRun, number: int, clients: tuple[str, ...] = MEMBERS) -> None:
    for client in clients:
        made.train(client)
    made.close()
    for client in clients:
        made.unmask(client)
    assert made.aggregate().round == number


def is_sound(run: Run) -> bool:
    return verify(run.root).sound


@pytest.mark.parametrize(
    "rule",
    [
        {"strategy": "fedavgm"},
        {"strategy": "fedadam", "server_lr": 0.01},
        {"encode_global": "float16"},
        {"encode_global": "int8", "feedback_global": 1.0},
    ],
    ids=str,
)
def test_server_optimizers_and_deltas_work_on_the_sum(tmp_path, rule):
    made = masked_run(tmp_path, rule=AggregatePlan(**rule))
    open_round(made, 1)
    open_round(made, 2)
    assert is_sound(made.run)
    first, second = (values(made.run.round(n).global_model)["fc.weight"] for n in (1, 2))
    assert not np.array_equal(first, second)


def test_frozen_layers_are_not_in_the_sum(tmp_path):
    made = masked_run(tmp_path, train=TRAIN.with_options({"freeze": ("fc.bias",)}))
    open_round(made, 1)
    before, after = values(made.run.round(0).global_model), values(made.round.global_model)
    assert np.array_equal(before["fc.bias"], after["fc.bias"])
    assert not np.array_equal(before["fc.weight"], after["fc.weight"])
    assert values(made.round.update("a"), Kind.UPDATE)["masked"].size == before["fc.weight"].size
    assert is_sound(made.run)


def test_a_client_that_withholds_other_layers_than_most_is_left_out(tmp_path):
    made = masked_run(tmp_path)
    for client in "abc":
        made.train(client)
    made.train("d", options={"freeze": ("fc.bias",)})
    closed = made.close()
    assert closed.survivors == ("a", "b", "c")
    (absent,) = closed.missing
    assert absent.client == "d"
    assert "384 masked values of other tensors than" in absent.reason
    for client in "abc":
        made.unmask(client)
    assert made.aggregate().round == 1


ROLES = {
    "conv.weight": Role.PARAMETER,
    "bn.weight": Role.PARAMETER,
    "bn.running_mean": Role.BUFFER,
    "bn.num_batches_tracked": Role.COUNTER,
}


@pytest.mark.parametrize("away", [{"local_layers": ("bn",)}, {"freeze": ("bn",)}])
def test_layers_with_buffers_may_stay_at_the_client(away):
    check_roles("--secagg", TRAIN.with_options(away), ROLES)
    with pytest.raises(UsageError, match=r"'bn\.running_mean' of this model is a buffer"):
        check_roles("--secagg", TRAIN, ROLES)
    without = {name: role for name, role in ROLES.items() if role != Role.BUFFER}
    with pytest.raises(UsageError, match="is a counter, and only parameters are masked"):
        check_roles("--secagg", TRAIN, without)


def test_only_the_drawn_clients_mask_together(tmp_path):
    made = masked_run(tmp_path, rule=AggregatePlan(clients_per_round=3))
    drawn = sampled_clients(made.run.info, 1)
    (other,) = set(MEMBERS) - set(drawn)
    with pytest.raises(UsageError, match=f"--id {other}: is not drawn for round 1"):
        made.train(other)
    with pytest.raises(UsageError, match=f"--id {other}: is not drawn for round 1"):
        made.unmask(other)
    open_round(made, 1, drawn)
    assert is_sound(made.run)


def test_what_is_cut_off_is_told_to_its_owner_only(tmp_path):
    made = masked_run(tmp_path, train=TRAIN.with_options({"lr": 5.0}))
    said: list[str] = []

    class Listening:
        def say(self, text: str) -> None:
            said.append(text)

        def start(self, *_: object) -> None: ...

        def advance(self, *_: object) -> None: ...

    train_client(
        made.run, ["a"], key=made.keys["a"].path, execution=ONE_THREAD, progress=Listening()
    )
    assert any("changes were beyond 0.25 and were cut off" in line for line in said)
    for path in made.round.updates.iterdir():
        assert b"cut off" not in path.read_bytes()
        assert b"clipped" not in path.read_bytes()


def test_no_change_of_the_model_is_larger_than_the_clip(tmp_path):
    made = masked_run(tmp_path, train=TRAIN.with_options({"lr": 5.0}))
    open_round(made, 1)
    before, after = values(made.run.round(0).global_model), values(made.round.global_model)
    change = max(float(np.abs(after[n] - before[n]).max()) for n in before)
    assert 0.9 * CLIP < change <= CLIP * (1 + 1e-6)


def test_private_training_is_masked_too(tmp_path):
    """The masks hide what differential privacy would let a single update tell."""
    private = {"dp": "example", "clip": 1.0, "noise_multiplier": 1.0}
    made = masked_run(tmp_path, train=TRAIN.with_options(private))
    for client in "abc":
        noise = keygen(made.run.root, tmp_path / f"{client}.noise", noise=True).path
        own = Execution(threads=1, state=tmp_path / f"state-{client}")
        made.train(client, noise_key=noise, execution=own)
    made.close()
    for client in "abc":
        made.unmask(client)
    made.aggregate()
    with Checkpoint(made.round.update("a"), Kind.UPDATE) as update:
        assert update.metadata.training.privacy is not None
        assert (update.metadata.num_examples, update.metadata.training.steps) == (None, None)
    assert is_sound(made.run)


def test_the_commands_of_the_report_make_the_same_run(tmp_path):
    made = masked_run(tmp_path)
    open_round(made, 1)
    first, *others = report([made.run]).runs[0].recipe.commands
    words = shlex.split(first)[2:]
    words[words.index("--run") + 1] = str(tmp_path / "again")
    words[words.index("FILE")] = str(made.keys["coordinator"].path)
    assert execute(["init", *words]) == 0
    assert Run.open(tmp_path / "again").id == made.run.id
    steps = [shlex.split(line)[1] for line in others]
    assert steps[:4] == ["train-client", "aggregate", "unmask", "aggregate"]
    assert "--close" in others[1]
