"""The steps that are killed, failed and repeated, and what comes before each."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcli.security.private_files import write_private
from support.behind_faults import Commands
from support.signing import fixed_key

CUT = ("--clients", "2", "--limit", "24", "--model", "linear", "--epochs", "1", "--batch-size", "8")
SCAFFOLD = ("--algorithm", "scaffold", "--epochs", "2")
ENCODED = ("--encode", "topk=0.05", "--feedback", "1")
ALL = ("--id", "all", "--threads", "1")


@dataclass(frozen=True)
class Step:
    """A command after those that come before it; ``calls`` are the fewest that it makes."""

    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    calls: int = 6


# The public part of the key that ``prepare`` puts there for the ward.
WARD = "ed25519:ScgTIdXiWsgpAoSLExomCN9A36q6EtNBw/UmDv6WkXE="
SIGNED = (
    *("init", "--classes", "a,b", "--image-size", "8", "--model", "linear", "--epochs", "1"),
    *("--member", f"ward={WARD}", "--key", "coordinator.key"),
)
SIGNED_TRAIN = (
    *("train-client", "--id", "ward", "--data", "ward.npz", "--key", "ward.key"),
    *("--threads", "1"),
)
PARTITION = ("partition", *CUT)
TRAIN = ("train-client", *ALL)
BOTH_WAYS = (
    *("--encode", "round=0.1", "--feedback", "1"),
    *("--encode-global", "round=0.1", "--feedback-global", "1"),
)
PARTITION_ENCODED = (*PARTITION, *BOTH_WAYS)
ENCODED_ROUND = (TRAIN, ("aggregate",))
PRIVATE = ("--dp", "example", "--clip", "1", "--noise-multiplier", "2")
PRIVATE_TRAIN = ("train-client", "--id", "1", "--threads", "1", "--noise-key", "noise.key")
MASKED = ("partition", "--clients", "3", *CUT[2:], "--secagg", "--secagg-clip", "0.5")
CLOSE = ("aggregate", "--close")
ANSWERS = tuple(("unmask", "--id", client) for client in "012")
SHARED = (SIGNED, ("push", "share"))
FETCH = ("pull", "share", "--run", "copy", "--id", "ward")
TRAINED = (*SHARED, FETCH, (*SIGNED_TRAIN, "--run", "copy"))
STEPS = {
    "partition": Step(PARTITION, calls=40),
    "partition --force": Step(("partition", *CUT, "--seed", "1", "--force"), (PARTITION, TRAIN)),
    "init": Step(("init", "--classes", "a,b", "--model", "linear", "--clients", "0,1")),
    "train-client": Step(("train-client", "--id", "0,1", "--threads", "1"), (PARTITION,)),
    "train-client, state": Step(
        ("train-client", "--id", "1", "--threads", "1", "--checkpoint-every", "1"),
        (("partition", *CUT, *SCAFFOLD),),
    ),
    "train-client --force": Step(
        ("train-client", "--id", "1", "--threads", "1", "--lr", "0.5", "--force"),
        (("partition", *CUT, *SCAFFOLD), TRAIN),
    ),
    "train-client, residual": Step(
        ("train-client", "--id", "1", "--threads", "1"),
        (("partition", *CUT, *ENCODED), TRAIN, ("aggregate",)),
    ),
    "train-client --force, residual": Step(
        ("train-client", "--id", "1", "--threads", "1", "--lr", "0.5", "--force"),
        (("partition", *CUT, *ENCODED), TRAIN, ("aggregate",), TRAIN),
    ),
    "train-client, private": Step(
        (*PRIVATE_TRAIN, "--checkpoint-every", "1"),
        (("partition", *CUT, *PRIVATE, *SCAFFOLD, "--scaffold-option", "2"),),
    ),
    "train-client --force, private": Step(
        (*PRIVATE_TRAIN, "--lr", "0.5", "--force"), (("partition", *CUT, *PRIVATE), PRIVATE_TRAIN)
    ),
    "aggregate": Step(("aggregate", "--round", "1"), (PARTITION, TRAIN)),
    "aggregate, state": Step(
        ("aggregate", "--round", "1"), (("partition", *CUT, *SCAFFOLD), TRAIN)
    ),
    "aggregate --force": Step(
        ("aggregate", "--round", "1", "--strategy", "fedadam", "--server-lr", "0.5", "--force"),
        (PARTITION, TRAIN, ("aggregate", "--strategy", "fedadam")),
    ),
    "aggregate, encoded": Step(
        ("aggregate", "--round", "2"), (PARTITION_ENCODED, *ENCODED_ROUND, TRAIN)
    ),
    "train-client, encoded": Step(
        ("train-client", "--id", "1", "--threads", "1"), (PARTITION_ENCODED, *ENCODED_ROUND)
    ),
    "aggregate --partial": Step(
        ("aggregate", "--partial", "0", "1", "-o", "edge.safetensors"), (PARTITION, TRAIN)
    ),
    "evaluate": Step(("evaluate", "--round", "all"), (PARTITION, TRAIN, ("aggregate",))),
    "report": Step(
        ("report", "--csv", "r.csv", "--markdown", "r.md"), (PARTITION, TRAIN, ("aggregate",))
    ),
    "gc": Step(
        ("gc", "--keep-last", "1"), (("partition", *CUT, *SCAFFOLD), *[TRAIN, ("aggregate",)] * 3)
    ),
    "export": Step(("export", "-o", "model.safetensors"), (PARTITION, TRAIN, ("aggregate",))),
    "train-client, masked": Step(("train-client", "--id", "1", "--threads", "1"), (MASKED,)),
    "aggregate --close": Step(CLOSE, (MASKED, TRAIN)),
    "unmask": Step(("unmask", "--id", "1"), (MASKED, TRAIN, CLOSE)),
    "aggregate, masked": Step(("aggregate", "--round", "1"), (MASKED, TRAIN, CLOSE, *ANSWERS)),
    "push": Step(("push", "share"), (SIGNED,)),
    "push, bundle": Step(("push", "share.zip"), (SIGNED,)),
    "pull": Step(FETCH, SHARED),
    "push, client": Step(("push", "share", "--run", "copy"), TRAINED),
    "pull, coordinator": Step(("pull", "share"), (*TRAINED, ("push", "share", "--run", "copy"))),
    "init, signed": Step(SIGNED),
    "train-client, signed": Step(SIGNED_TRAIN, (SIGNED,)),
    "aggregate, signed": Step(
        ("aggregate", "--round", "1", "--key", "coordinator.key"), (SIGNED, SIGNED_TRAIN)
    ),
}


def prepare(behind_faults: Commands, step: Step, folder: Path) -> None:
    """Make the folder what it is before the step: data, keys, and what came of earlier commands."""
    scene = behind_faults.scenes / hashlib.sha256(repr(step.before).encode()).hexdigest()
    if not scene.exists():
        _make(behind_faults, step.before, scene)
    shutil.copytree(scene, folder)


def _make(behind_faults: Commands, before: Sequence[Sequence[str]], folder: Path) -> None:
    folder.mkdir()
    np.savez(folder / "ward.npz", x=np.zeros((4, 8, 8, 3), np.uint8), y=np.array([0, 1, 0, 1]))
    fixed_key(folder, "coordinator")
    write_private(folder / "noise.key", f"noise:{'A' * 43}=\n".encode(), force=False)
    assert fixed_key(folder, "ward").public == WARD
    for words in before:
        ended = behind_faults(folder, *words)
        assert ended.status == 0, ended.err
