"""A study whose parties have directories of their own; updates are made without training."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.formats.checkpoint import digest, save
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.telemetry import Telemetry
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.security.signatures import sign_update
from fedcli.steps.aggregate import AggregateResult, aggregate
from fedcli.steps.pull import PullResult, pull
from fedcli.steps.push import PushResult, push
from support.runs import ROLES, deliver, run_info, tensors
from support.signing import CLIENTS, Keys, fixed_key, signed_run

COORDINATOR = "coordinator"
PARTIES = (COORDINATOR, *CLIENTS)


@dataclass(frozen=True)
class Study:
    """The directories of a coordinator and three clients below one folder; ``keys`` if it signs."""

    folder: Path
    keys: Keys | None = None

    def root(self, party: str) -> Path:
        return self.folder / party

    def run(self, party: str) -> Run:
        return Run.open(self.root(party))

    def push(self, party: str, remote: object, **more: Any) -> PushResult:
        return push(self.run(party), str(remote), **more)

    def pull(self, party: str, *remotes: object, **more: Any) -> PullResult:
        if party != COORDINATOR:
            more = {"clients": [party], **more}
        return pull(self.root(party), [str(remote) for remote in remotes], **more)

    def train(self, client: str, seed: int | None = None, copy: str | None = None) -> str:
        """Write what training would for the open round, and return the update's SHA-256."""
        run = self.run(copy or client)
        round_ = run.open_round()
        values = tensors(10 * round_.number + int(client) if seed is None else seed)
        sha256 = deliver(run, client, values, round_number=round_.number)
        Telemetry(sha256, client=client, host="here").write(round_.telemetry(client))
        if self.keys is not None:
            sign_update(run, round_, client, sha256, self.keys[client])
        return sha256

    def aggregate(self, **more: Any) -> AggregateResult:
        key = None if self.keys is None else self.keys[COORDINATOR].path
        return aggregate(self.run(COORDINATOR), key=key, **more)

    def round(self, remote: object, clients: tuple[str, ...] = CLIENTS) -> AggregateResult:
        """Play one round; everybody sends and fetches what is theirs."""
        for client in clients:
            self.pull(client, remote)
            self.train(client)
            self.push(client, remote)
        self.pull(COORDINATOR, remote)
        made = self.aggregate()
        self.push(COORDINATOR, remote)
        return made


def signed_study(folder: Path, seed: int = 0) -> Study:
    """A study whose updates and models are signed; another seed, another run."""
    folder.mkdir(exist_ok=True)
    keys = {name: fixed_key(folder, name) for name in PARTIES}
    signed_run(folder / COORDINATOR, keys, seed=seed)
    return Study(folder, keys)


def unsigned_study(folder: Path, plan: Plan | None = None) -> Study:
    """A study without keys."""
    info = run_info(CLIENTS)
    run = Run.create(folder / COORDINATOR, info if plan is None else replace(info, plan=plan))
    described = Metadata(Kind.GLOBAL, run.id, round=0, roles=ROLES, seed=0)
    save(run.round(0).global_model, tensors(0), described)
    return Study(folder)


def names(root: Path) -> list[str]:
    """The files below a folder, by their paths in it, in order."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(found)


def digests(root: Path, *folders: str) -> dict[str, str]:
    """The SHA-256 of every file of a run, but for those that are only of one place."""
    local = ("copy.json", "receipts.json")
    return {name: digest(root / name) for name in names(root) if name not in local}
