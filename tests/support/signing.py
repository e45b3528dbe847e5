"""Runs whose updates and global models are signed, made without torch."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedcli.formats.checkpoint import save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.run import Run
from fedcli.security.keys import SigningKey, read_key, write_new_key
from fedcli.security.signatures import sign_global, sign_update
from fedcli.storage.atomic import write_bytes
from support.runs import ROLES, deliver, run_info, tensors

Keys = dict[str, SigningKey]
CLIENTS = ("0", "1", "2")


@dataclass(frozen=True)
class Signed:
    """A run with the private keys of everybody in it."""

    run: Run
    members: dict[str, SigningKey]
    coordinator: SigningKey

    def deliver(self, client: str, values: dict[str, Any], *, round_number: int = 1) -> str:
        """Write a signed update and return its SHA-256."""
        sha256 = deliver(self.run, client, values, round_number=round_number)
        round_ = self.run.round(round_number)
        sign_update(self.run, round_, client, sha256, self.members[client])
        return sha256

    def finish(self, round_number: int, seed: int) -> str:
        """Write a signed global model and return its SHA-256."""
        round_ = self.run.round(round_number)
        described = Metadata(Kind.GLOBAL, self.run.id, round=round_number, roles=ROLES, seed=0)
        sha256 = save(round_.global_model, tensors(seed), described)
        sign_global(self.run, round_, sha256, None, self.coordinator)
        return sha256


def keys(folder: Path) -> Keys:
    """New keys of the clients and of the coordinator, each in a file."""
    return {
        name: write_new_key(folder / f"{name}.key", outside=folder / "fedrun")
        for name in (*CLIENTS, "coordinator")
    }


def fixed_key(folder: Path, name: str) -> SigningKey:
    """Write a key that is the same for the same name, and return it."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / f"{name}.key"
    write_bytes(path, pem, mode=0o600)
    return read_key(path, outside=folder / "fedrun")


def signed_run(root: Path, owned: Keys, *, seed: int = 0) -> Signed:
    """A run of three members and a coordinator with a starting model; another seed, another run."""
    members = {client: owned[client] for client in CLIENTS}
    public = {client: key.public for client, key in members.items()}
    coordinator = owned["coordinator"]
    info = replace(run_info(CLIENTS), seed=seed, members=public, coordinator=coordinator.public)
    signed = Signed(Run.create(root, info), members, coordinator)
    signed.finish(0, seed=0)
    return signed


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def watch_names(monkeypatch: pytest.MonkeyPatch, look: Callable[[Path], None]) -> None:
    """Call ``look`` with a place in the directory just before a finished file appears there."""
    for function in ("replace", "rename", "link"):
        really = getattr(os, function)

        def watched(source: Any, target: Any, really: Any = really, **more: Any) -> None:
            look(Path(target))
            really(source, target, **more)

        monkeypatch.setattr(os, function, watched)


def states(root: Path) -> dict[str, tuple[int, int]]:
    """Which file is at every place under a directory, and when it was written."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = (Path(folder) / name).stat()
            found[str(Path(folder) / name)] = (status.st_ino, status.st_mtime_ns)
    return found
