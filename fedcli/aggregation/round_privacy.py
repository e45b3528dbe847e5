"""How a round protects its clients: the settled plan, and the key of the noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcli.errors import BadInputError, UsageError
from fedcli.plan import AggregatePlan
from fedcli.plan.client_level import ClientPrivacy
from fedcli.plan.masked_noise import MaskedNoise
from fedcli.privacy import PrivacyLimit
from fedcli.run import Run
from fedcli.run.sampling import sample_size
from fedcli.security.noise_key import NoiseKey, read_noise_key
from fedcli.security.secret_streams import SecretStreams


@dataclass(frozen=True)
class RoundPrivacy:
    """How a round protects its clients, the key of its noise, if that is known, and the limit.

    If updates are ``masked``, members have shortened their steps and added ``noise`` themselves.
    """

    how: ClientPrivacy
    key: NoiseKey | None = None
    limit: PrivacyLimit | None = None
    masked: bool = False
    noise: MaskedNoise | None = None

    @classmethod
    def of(cls, run: Run, plan: AggregatePlan, noise_key: Path | None) -> "RoundPrivacy | None":
        """Settle the plan and read the key; None for a plan that protects nobody.

        The key may be missing as long as nothing is drawn. Raises ``UsageError`` for a key that has
        no use, and in a run that commits to none, ``BadInputError`` for another one than
        ``run.json`` names, and what ``read_noise_key`` does.
        """
        how = ClientPrivacy.of(plan, sample_size(plan, len(run.info.clients)))
        masked = run.info.plan.secagg is not None
        if noise_key is not None and (how is None or not how.adds_noise or masked):
            why = "with --secagg: members add the noise" if masked else "without --update-noise"
            raise UsageError(f"--noise-key: has no use {why}", hint="leave --noise-key out")
        key = None if noise_key is None else committed_key(run, noise_key)
        if how is None:
            return None
        return cls(how, key, _limit(plan), masked, MaskedNoise.planned(run.info.plan))

    def streams(self, run: Run, number: int, inputs: str) -> SecretStreams | None:
        """Return the secret streams of a round; None without noise.

        ``inputs`` is as in ``NoiseKey.streams``. Raises ``UsageError`` without a key.
        """
        if not self.how.adds_noise:
            return None
        if self.key is None:
            raise UsageError(
                "--update-noise: comes from the secret key that the run was made with; name it"
                " with --noise-key"
            )
        return self.key.streams(run.id, number, inputs)


def _limit(plan: AggregatePlan) -> PrivacyLimit | None:
    epsilon, delta = plan.update_max_epsilon, plan.update_delta
    if epsilon is None or delta is None:
        return None
    return PrivacyLimit(epsilon, delta, "--update-max-epsilon")


def options_of(privacy: RoundPrivacy | None) -> Mapping[str, Any]:
    """Return the options that protect the clients, as used; empty if nothing does."""
    return {} if privacy is None else privacy.how.options


def is_private(privacy: RoundPrivacy | None) -> bool:
    """Return whether files must not tell what depends on single clients."""
    return privacy is not None and privacy.how.adds_noise


def committed_key(run: Run, path: Path) -> NoiseKey:
    """Read the coordinator's noise key, to which ``run.json`` commits; see ``RoundPrivacy.of``."""
    key = read_noise_key(path, outside=run.root)
    if run.info.noise_key is None:
        raise UsageError(
            "--noise-key: run.json commits to no key, so that nobody could tell which one was used",
            hint="make a run with partition --noise-key or init --noise-key",
        )
    if key.commitment != run.info.noise_key:
        raise BadInputError(
            f"is the key {key.commitment[:12]}…, expected {run.info.noise_key[:12]}…, to which"
            " run.json commits",
            hint="fedcli keygen --noise --show FILE prints which key a file holds",
            path=path,
        )
    return key
