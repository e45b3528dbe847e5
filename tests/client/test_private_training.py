"""Training with differential privacy: the same bytes, what is spent, what nobody may see."""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import CPU, NORMALIZE, assignment, pictures, trained
from support.small_runs import contents, facts, small_run
from torch import nn

from fedcli.cli import execute
from fedcli.client.local_training import Trained
from fedcli.errors import ConflictError, UsageError
from fedcli.formats.ledger import Mechanism
from fedcli.plan import Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.plan.private_training import private_plan
from fedcli.plan.sampling_rate import public_rate
from fedcli.run import Run
from fedcli.run.ledgers import LedgerStore
from fedcli.security.noise_key import read_noise_key, write_noise_key
from fedcli.security.secret_streams import SecretStreams
from fedcli.steps.train_client import train_client
from fedcli.steps.verify import verify
from fedcli.storage.atomic import canonical_json
from fedcli.training.augmentation import channels_last
from fedcli.training.batches import InMemory
from fedcli.training.loop import Epoch, Stage, Trainer
from fedcli.training.optimizers import OPTIMIZERS
from fedcli.training.secret_noise import poisson
from fedcli.verification.findings import Problem
from fedcli.verification.replay_sandbox import UserCode

STREAMS = SecretStreams(b"a key of thirty-two secret bytes")
PLAN = TrainPlan(
    epochs=3, batch_size=8, lr=0.05, dp="example", clip=0.5, noise_multiplier=0.8, momentum=0.9
)
ONE_THREAD = Execution(threads=1)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(144, 2),
        )


def result(plan: TrainPlan, module: nn.Module | None = None, **more: Any) -> Trained:
    return trained(assignment(plan, module or network(), streams=STREAMS, **more))


def assert_same(a: Trained, b: Trained) -> None:
    assert {n: v.tobytes() for n, v in a.sent.items()} == {
        n: v.tobytes() for n, v in b.sent.items()
    }
    assert [replace(one, seconds=1) for one in a.epochs] == [
        replace(one, seconds=1) for one in b.epochs
    ]


CHANGES: dict[str, dict[str, Any]] = {
    "momentum": {},
    "adam": {"optimizer": "adam", "lr": 1e-3},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.1},
    "augmented": {"augment": ("flip", "crop", "cutout"), "label_smoothing": 0.1},
    "steps": {"steps": 7},
    "clipped": {"clip_grad": 0.1},
    "bf16": {"precision": "bf16"},
    "proximal": {"proximal": 0.1},
    "scaffold": {"algorithm": "scaffold"},
    "feddyn": {"algorithm": "feddyn"},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_from_the_end_of_any_epoch_the_bytes_are_the_same(changes: dict[str, Any]) -> None:
    plan = PLAN.with_options(changes)
    states = []

    def keep(trainer: Trainer, stage: Stage, epoch: Epoch) -> None:
        tensors, told = trainer.state()
        states.append((tensors, canonical_json(told)))

    whole = trained(assignment(plan, network(), streams=STREAMS), keep)
    assert len(states) == len(whole.epochs)
    for tensors, told in states:
        assert_same(whole, result(plan, resume=(tensors, json.loads(told), Path("kept"))))


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.0}, {"optimizer": "adam", "lr": 1e-3}])
def test_without_noise_and_clipping_it_is_plain_sgd_on_the_poisson_batches(
    changes: dict[str, Any],
) -> None:
    plan = PLAN.with_options({**changes, "noise_multiplier": 0.0})
    plan = replace(plan, clip=None, steps=6)
    module = network().eval()  # ... whose dropout is off in ``train_locally`` by a probability of 0
    for layer in module:
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    reference, count = _copy(module), 40
    x, y = pictures(count)
    optimizer = OPTIMIZERS[plan.optimizer](list(reference.parameters()), plan, plan.lr)
    for number in range(6):
        batch = poisson(STREAMS, number, count, plan.batch_size / count)
        logits = reference(channels_last(NORMALIZE(x[batch])))
        loss = nn.functional.cross_entropy(logits, y[batch], reduction="sum") / plan.batch_size
        optimizer.step(torch.autograd.grad(loss, optimizer.parameters))
    found = result(plan, module).sent
    for name, value in reference.state_dict().items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-5, atol=1e-6)


def _copy(module: nn.Module) -> nn.Module:
    other = network()
    other.load_state_dict(module.state_dict())
    for layer in other:
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return other


def test_batches_may_be_empty() -> None:
    plan = PLAN.with_options({"batch_size": 1, "steps": 30, "noise_multiplier": 0.1})
    sizes = {len(poisson(STREAMS, step, 40, 1 / 40)) for step in range(30)}
    assert 0 in sizes
    assert all(np.isfinite(value).all() for value in result(plan).sent.values())


def test_an_example_that_is_not_a_number_changes_nothing() -> None:
    plan = PLAN.with_options({"steps": 4, "noise_multiplier": 0.0, "batch_size": 64})
    x, y = pictures(40)
    broken = x.float()
    broken[7] = torch.nan
    ends = []
    for values in (broken, broken.index_select(0, torch.tensor([i for i in range(40) if i != 7]))):
        labels = y if len(values) == 40 else y[[i for i in range(40) if i != 7]]
        module = network()
        module[3] = nn.Identity()
        given = assignment(plan, module, streams=STREAMS)
        ends.append(trained(replace(given, source=InMemory(values, labels, CPU))).sent)
    for name in ends[0]:
        np.testing.assert_allclose(ends[0][name], ends[1][name], rtol=1e-5, atol=1e-6)


REFUSED = {
    "mixup": ({"mixup": 0.3}, "--mixup: blends examples"),
    "initial loss": ({"initial_loss": True}, "--initial-loss: is the loss of all examples"),
    "fp16": ({"precision": "fp16"}, "--precision fp16: skips steps"),
    "moon": ({"algorithm": "moon"}, "--algorithm moon: compares features"),
    "ditto": ({"algorithm": "ditto"}, "--algorithm ditto: trains a second model"),
    "scaffold 1": (
        {"algorithm": "scaffold", "scaffold_option": 1},
        "--algorithm scaffold: sends the gradient of all",
    ),
    "head": ({"local_layers": ("5",), "head_epochs": 1}, "--head-epochs: trains on the examples"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_breaks_the_sensitivity_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PLAN.with_options(changes)


def test_clip_and_noise_belong_together_and_to_dp() -> None:
    for values, message in (
        ({"clip": 1.0}, "--clip: needs --dp example"),
        ({"noise_multiplier": 1.0}, "--noise-multiplier: needs --dp example"),
        ({"dp": "example", "clip": 1.0}, "--dp example: needs --noise-multiplier, or --target"),
        ({"dp": "example", "noise_multiplier": 1.0}, "--dp example: needs --clip"),
        (
            {"dp": "example", "clip": 0.0, "noise_multiplier": 1.0},
            "--clip: expected a number above",
        ),
        ({"dp": "nobody"}, "--dp: unknown value 'nobody'"),
    ):
        with pytest.raises(UsageError, match=message):
            TrainPlan.of(**values)
    without_noise = TrainPlan.of(dp="example", noise_multiplier=0.0)
    assert TrainPlan.from_mapping(without_noise.as_json(), "plan") == without_noise


def test_batch_norm_is_refused_and_frozen_batch_norm_is_not(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", Plan(train=PLAN), model="resnet18", clients=("0",), count=8)
    key = _key(tmp_path)
    with pytest.raises(UsageError, match=r"--dp example: layer bn1 \(BatchNorm2d\)") as caught:
        train_client(run, ["0"], noise_key=key, execution=ONE_THREAD)
    assert "--norm group" in str(caught.value.hint)
    assert not run.round(1).update("0").exists()
    frozen = {"freeze": ("*", "!fc"), "steps": 2}
    train_client(run, ["0"], noise_key=key, options=frozen, execution=ONE_THREAD)
    assert set(contents(run.round(1).update("0"))[0]) == {"fc.weight", "fc.bias"}


def _key(folder: Path, name: str = "key") -> Path:
    return write_noise_key(folder / name, outside=Path("elsewhere")).path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("private") / "fedrun"
    return small_run(root, private_plan(Plan(train=PLAN)), clients=("0", "1"), model="cnn").root


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Run:
    shutil.copytree(template, tmp_path / "fedrun")
    return Run.open(tmp_path / "fedrun")


def train(run: Run, key: Path, client: str = "0", **more: Any) -> bytes:
    train_client(run, [client], noise_key=key, execution=ONE_THREAD, **more)
    return run.round(1).update(client).read_bytes()


def test_the_same_key_and_inputs_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    key = _key(tmp_path)
    first = train(run, key)
    assert train(run, key) == first  # nothing to do
    assert train(run, key, force=True) == first


def test_another_key_or_input_gives_independent_noise(run: Run, tmp_path: Path) -> None:
    """Else the difference of two updates would have no noise: the noise is most of each here."""
    key = _key(tmp_path)
    loud = {"noise_multiplier": 50.0}
    train(run, key, options=loud)
    base = contents(run.round(0).global_model)[0]
    steps = [_flat(run, base)]
    with pytest.raises(ConflictError, match="another noise key"):
        train(run, _key(tmp_path, "other"), options=loud)
    others: tuple[tuple[Path, dict[str, Any]], ...] = (
        (tmp_path / "other", {"options": loud}),
        (key, {"options": {**loud, "lr": 0.050001}}),
        (key, {"options": {**loud, "clip": 0.500001}}),
        (key, {"options": loud, "seed": 1}),
    )
    for other, more in others:
        train(run, other, force=True, **more)
        steps.append(_flat(run, base))
    train(run, key, "1", options=loud)
    steps.append(_flat(run, base, "1"))
    found = np.corrcoef(np.stack(steps)) - np.eye(len(steps))
    assert np.abs(found).max() < 5 / np.sqrt(len(steps[0]))


def _flat(run: Run, base: dict[str, Any], client: str = "0") -> np.ndarray[Any, Any]:
    sent = contents(run.round(1).update(client))[0]
    return np.concatenate([(sent[name] - base[name]).ravel() for name in sorted(sent)])


def test_what_is_spent_is_in_the_update_and_exactly_in_the_ledger(run: Run, tmp_path: Path) -> None:
    train(run, _key(tmp_path))
    update = contents(run.round(1).update("0"))[1]
    public, (spent,) = update.training.privacy, LedgerStore(run).read("0").entries
    assert public is not None
    assert (public.mechanism, public.sigma, public.clip) == (Mechanism.POISSON, 0.8, 0.5)
    assert public.divisor == PLAN.batch_size
    assert public.count == update.training.steps == facts(run, 1, "0")["steps"]
    assert spent.event == replace(public, q=8 / 40)
    assert public.q == public_rate(8 / 40) > 8 / 40
    assert (spent.run, spent.round) == (run.id, 1)
    assert not run.round(1).client_state("0").exists()


def test_no_file_log_or_json_holds_the_key(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = _key(tmp_path)
    words = ["train-client", "--run", str(run.root), "--id", "0", "--noise-key", str(key)]
    words += ["--threads", "1", "--checkpoint-every", "1", "--json"]
    assert execute(words) == 0
    assert execute([*words, "--lr", "1"]) == 5  # a conflict, whose message says what differs
    assert execute(["status", "--run", str(run.root), "--json"]) == 0
    out, err = capfd.readouterr()
    secret = base64.b64decode(key.read_text().removeprefix("noise:"))
    shown = [path.read_bytes() for path in run.root.rglob("*") if path.is_file()]
    shown += [out.encode(), err.encode()]
    spellings = [secret, secret.hex().encode(), base64.b64encode(secret), repr(secret).encode()]
    spellings += [secret[::-1], base64.urlsafe_b64encode(secret), secret[:16], secret[16:]]
    assert len(shown) > 8
    assert not [one for one in shown for spelling in spellings if spelling in one]


def test_a_key_is_needed_with_dp_only(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dp example: draws batches and noise") as caught:
        train_client(run, ["0"])
    assert caught.value.hint == "fedcli keygen --noise FILE makes one"
    inside = _key(run.root)
    with pytest.raises(UsageError, match="is in the run directory"):
        train(run, inside)
    compiled = replace(ONE_THREAD, compile=True)
    with pytest.raises(UsageError, match="--compile: --dp example reads layers"):
        train_client(run, ["0"], noise_key=_key(tmp_path), execution=compiled)
    plain = small_run(tmp_path / "plain")
    with pytest.raises(UsageError, match="--noise-key: has no use without --dp"):
        train(plain, tmp_path / "key")


def test_a_client_with_its_own_data_keeps_what_it_spent_to_itself(run: Run, tmp_path: Path) -> None:
    key, own = _key(tmp_path), tmp_path / "own.npz"
    x, y = (values.numpy() for values in pictures(24))
    np.savez(own, x=x, y=y)
    with pytest.raises(UsageError, match="--state: what private training keeps tells the number"):
        train(run, key, data=str(own))
    state = tmp_path / "state"
    execution = replace(ONE_THREAD, state=state)
    train_client(run, ["0"], noise_key=key, data=str(own), execution=execution)
    (spent,) = LedgerStore(run, state).read("0").entries
    assert spent.event.q == 8 / 24
    assert not LedgerStore(run).path("0").exists()


def test_adapters_train_in_private(tmp_path: Path) -> None:
    key = _key(tmp_path)
    words = ["--threads", "1", "--noise-key", str(key)]
    root = str(tmp_path / "run")
    made = ["partition", "--run", root, "--limit", "60", "--clients", "1", "--model", "cnn"]
    made += ["--lora", "2", "--steps", "2", "--batch-size", "8", "--dp", "example", "--clip", "1"]
    assert execute([*made, "--noise-multiplier", "1"]) == 0
    assert execute(["train-client", "--run", root, "--id", "0", *words]) == 0
    sent = contents(Run.open(Path(root)).round(1).update("0"))[0]
    assert {name.rpartition(".")[2] for name in sent} == {"lora_a", "lora_b", "weight", "bias"}


def test_examples_that_are_decoded_on_demand_give_the_same_bytes(tmp_path: Path) -> None:
    """Batches of one example in the mean are often empty."""
    key, folder = _key(tmp_path), tmp_path / "pictures"
    x, y = (values.numpy() for values in pictures(30))
    for number, (picture, label) in enumerate(zip(x, y, strict=True)):
        path = folder / "ab"[label] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(path)
    plan = PLAN.with_options({"batch_size": 1, "steps": 40})
    template = small_run(tmp_path / "run", Plan(train=plan), model="cnn", clients=("0",))
    sent = []
    for stream in (False, True):
        root = shutil.copytree(template.root, tmp_path / f"run {stream}")
        execution = replace(ONE_THREAD, state=tmp_path / "state", stream=stream)
        execution = replace(execution, num_workers=0 if stream else None)
        run = Run.open(root)
        train_client(run, ["0"], noise_key=key, data=str(folder), execution=execution)
        sent.append(contents(run.round(1).update("0"))[0])
    assert all(sent[0][name].tobytes() == sent[1][name].tobytes() for name in sent[0])


def test_only_the_holder_of_the_key_can_replay(run: Run, tmp_path: Path) -> None:
    key = _key(tmp_path)
    train(run, key)
    kept = read_noise_key(key, outside=run.root)
    other = read_noise_key(_key(tmp_path, "other"), outside=run.root)
    for given, said in (
        (None, "it needs the noise key"),
        (other, "it was trained with another noise key"),
        (kept, None),
    ):
        found = verify(run.root, replay=UserCode(noise_key=given))
        assert found.sound
        reasons = [one.message for one in found.findings if one.problem == Problem.NOT_REPLAYED]
        assert [said in reason for reason in reasons] == ([] if said is None else [True])


def test_run_passes_the_key_on_to_its_clients(run: Run, tmp_path: Path) -> None:
    words = ["run", "--run", str(run.root), "--rounds", "1", "--no-evaluate"]
    assert execute([*words, "--noise-key", str(_key(tmp_path))]) == 0
    assert {facts(run, 1, client)["noise_multiplier"] for client in "01"} == {0.8}
