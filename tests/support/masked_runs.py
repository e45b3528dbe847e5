"""Runs whose updates are masked, with keys that are the same each time, in this process."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedcli.formats.checkpoint import save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.plan import AggregatePlan, Plan, TrainPlan
from fedcli.plan.execution import Execution
from fedcli.plan.secagg import SecaggOptions
from fedcli.run import Run
from fedcli.run.info import ModelInfo
from fedcli.run.round import Round
from fedcli.security.key_files import KeyFile, read_key_file
from fedcli.setup.start import Start
from fedcli.steps.aggregate import AggregateResult, aggregate
from fedcli.steps.close import CloseResult, close_round
from fedcli.steps.init import init
from fedcli.steps.train_client import ClientResult, train_client
from fedcli.steps.unmask import UnmaskResult, unmask
from fedcli.storage.atomic import write_bytes

MEMBERS = ("a", "b", "c", "d")
CLIP, BITS = 0.25, 18
TRAIN = TrainPlan(epochs=1, batch_size=16, lr=0.05)
ONE_THREAD = Execution(threads=1)


def private_keys(name: str) -> tuple[bytes, bytes]:
    """The bytes of both private keys of somebody."""
    return tuple(hashlib.sha256(f"{name} {use}".encode()).digest() for use in ("sign", "mask"))


def key_file(folder: Path, name: str) -> KeyFile:
    signing, masking = private_keys(name)
    how = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = Ed25519PrivateKey.from_private_bytes(signing).private_bytes(*how)
    pem += X25519PrivateKey.from_private_bytes(masking).private_bytes(*how)
    path = folder / f"{name}.key"
    write_bytes(path, pem, mode=0o600)
    return read_key_file(path, outside=folder / "fedrun")


def give_data(run: Run, client: str) -> None:
    """Write a shard, which stands for a client's own folder."""
    rng = np.random.default_rng(ord(client))
    x, y = rng.integers(0, 256, (20, 3, 8, 8), np.uint8), np.arange(20) % 2
    x[y == 1] //= 2
    described = Metadata(Kind.SHARD, run.id, client=client, num_examples=20)
    save(run.client_shard(client), {"x": x, "y": y.astype(np.int64)}, described)


@dataclass(frozen=True)
class MaskedRun:
    """A run, and the keys of everybody in it."""

    run: Run
    keys: dict[str, KeyFile] = field(repr=False)

    @property
    def round(self) -> Round:
        return self.run.round(1)

    def train(self, client: str, **more: object) -> ClientResult:
        given = {"execution": ONE_THREAD, **more}
        return train_client(self.run, [client], key=self.keys[client].path, **given).clients[0]

    def close(self, **more: object) -> CloseResult:
        return close_round(self.run, key=self.keys["coordinator"].path, **more)

    def unmask(self, client: str, **more: object) -> UnmaskResult:
        return unmask(self.run, client, key=self.keys[client].path, **more)

    def aggregate(self, **more: object) -> AggregateResult:
        return aggregate(self.run, key=self.keys["coordinator"].path, **more)

    def finish(self, trained: str = "abcd", answering: str = "abcd") -> AggregateResult:
        for client in trained:
            self.train(client)
        self.close()
        for client in answering:
            self.unmask(client)
        return self.aggregate()


def masked_run(
    folder: Path,
    *,
    train: TrainPlan = TRAIN,
    rule: AggregatePlan | None = None,
    model: str = "linear",
    **secagg: object,
) -> MaskedRun:
    keys = {name: key_file(folder, name) for name in (*MEMBERS, "coordinator")}
    options = {"secagg": True, "secagg_clip": CLIP, "secagg_bits": BITS, **secagg}
    init(
        folder / "fedrun",
        ("x", "y"),
        members={name: keys[name].public.line for name in MEMBERS},
        key=keys["coordinator"].path,
        image_size=8,
        start=Start(
            ModelInfo(model),
            plan=Plan(train, rule or AggregatePlan()),
            secagg=SecaggOptions(**options),
        ),
    )
    run = Run.open(folder / "fedrun")
    for client in MEMBERS:
        give_data(run, client)
    return MaskedRun(run, keys)


def plain_run(folder: Path, train: TrainPlan = TRAIN) -> Run:
    """The same federation without keys and masks."""
    start = Start(ModelInfo("linear"), plan=Plan(replace(train)))
    init(folder / "fedrun", ("x", "y"), clients=MEMBERS, image_size=8, start=start)
    run = Run.open(folder / "fedrun")
    for client in MEMBERS:
        give_data(run, client)
    return run
