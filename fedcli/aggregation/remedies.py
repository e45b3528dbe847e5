"""What to do about an update that its round cannot use: the hint fits the fault."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedcli.aggregation.base_model import Base
from fedcli.errors import UpdateError
from fedcli.formats.metadata import Metadata
from fedcli.run.next_command import train_command


@dataclass(frozen=True)
class Remedies:
    """The remedies for the update of a client, which round ``now`` was to use."""

    base: Base
    client: str
    now: int

    def error(self, reason: str, mend: "Mend | None" = None) -> UpdateError:
        """Return the error of an update that cannot be used; by default it is trained again."""
        path = self.base.round.update(self.client)
        how = (mend or Remedies.again)(self)
        return UpdateError.mendable(reason, path, self.client, mend=how, without=self.without)

    def without(self, clients: Sequence[str]) -> str:
        """Return the command that does without the updates of these clients."""
        force = " --force" if self.base.run.round(self.now).global_model.exists() else ""
        words = f"aggregate --round {self.now} --exclude {','.join(clients)}{force}"
        return self.base.run.command(words)

    def again(self) -> str:
        """Train it again, where its data is."""
        return f"train it again: {self._train} --force"

    def copy(self) -> str:
        """Copy it again; if it was trained here, there may be no other copy."""
        here = self.base.run.client_shard(self.client).exists()
        return "copy it again from where it was trained" + (f", or {self.again()}" if here else "")

    def sign(self) -> str:
        """Bring the signature, which may only not have been copied, or sign it."""
        signature = self.base.round.signature(self.client)
        signed = f"train it with the client's key: {self._train}"
        if signature.exists():
            return f"copy it and {signature.name} again from where it was trained, or {signed}"
        return f"copy {signature.name} to {signature.parent}, or {signed}"

    def rebase(self) -> str:
        """Train it from the model of this round, which its client may not have."""
        if self.base.run.client_shard(self.client).exists():
            return self.again()
        return f"copy {self.base.path} to the client, and {self.again()}"

    def move(self, found: Metadata) -> str:
        """Move it to where it belongs by its metadata, if nothing is there."""
        run = self.base.run
        if found.run != run.id or not found.round or found.client is None:
            return self.again()
        path = run.round(found.round).update(found.client)
        move = f"remove it, since {path} exists" if path.exists() else f"move it to {path}"
        return f"{move}; then train this one: {self._train}"

    @property
    def _train(self) -> str:
        return train_command(self.base.run, [self.client], self.base.round.number)


Mend = Callable[[Remedies], str]


class UnusableError(ValueError):
    """A fault of an update; ``mend`` says what to do about it.

    It is not asked before the error is shown: a remedy looks at all rounds, and an attacker may
    cause thousands of faults.
    """

    def __init__(self, reason: str, mend: Mend) -> None:
        super().__init__(reason)
        self.mend = mend
