"""The coordinator's noise key, to which ``run.json`` commits."""

from pathlib import Path

from fedcli.errors import BadInputError, UsageError
from fedcli.plan import AggregatePlan
from fedcli.run import Run
from fedcli.security.noise_key import NoiseKey, read_noise_key


def coordinator_noise(run: Run, plan: AggregatePlan, path: Path | None) -> NoiseKey | None:
    """Return the key that the noise of a round comes from; None if there is none without ``path``.

    Raises ``UsageError`` for a key that has no use, and in a run that commits to none,
    ``BadInputError`` for another one than ``run.json`` names, and what ``read_noise_key`` does.
    """
    if path is None:
        return None
    if not plan.update_noise:
        raise UsageError(
            "--noise-key: has no use without --update-noise", hint="leave --noise-key out"
        )
    if run.info.noise_key is None:
        raise UsageError(
            "--noise-key: run.json commits to no key, so that nobody could tell which one was used",
            hint="make a run with partition --noise-key or init --noise-key",
        )
    key = read_noise_key(path, outside=run.root)
    if key.commitment != run.info.noise_key:
        raise BadInputError(
            f"is the key {key.commitment[:12]}…, expected {run.info.noise_key[:12]}…, to which"
            " run.json commits",
            hint="fedcli keygen --noise --show FILE prints which key a file holds",
            path=path,
        )
    return key
