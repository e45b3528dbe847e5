"""A membership-inference audit of the global models of rounds that protect their clients.

Every coordinate of the model has a canary: a client whose step is long, and along this coordinate
alone. A fair coin decides for each whether it delivers. The reader of the directory knows all
steps, and sees how far the global model moved.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.audit import proved_by_one_run, right_guesses
from support.noisy_runs import combine, manifest_of, moved, noisy_run, send
from support.thorough import times

from fedcli.privacy import epsilon_at
from fedcli.security import noise_key

CLIENTS, GUESSES, DELTA = 400, 120, 1e-5
RUNS = times(40, 4)


def attacked(root: Path, seed: int, options: dict[str, Any]) -> tuple[int, float]:
    """How many guesses of one round are right, and the ε that its manifest allows."""
    rng = np.random.default_rng(seed)
    members = rng.random(CLIENTS) < 0.5
    base = {"weight": rng.standard_normal(CLIENTS, dtype=np.float32)}
    run, key = noisy_run(root, CLIENTS, base, **options)
    steps = 100 * np.eye(CLIENTS, dtype=np.float32)
    send(run, {str(number): steps[number] for number in np.flatnonzero(members)})
    combine(run, key if options["update_noise"] else None, min_clients=1)
    spent = [entry.event for entry in manifest_of(run).privacy]
    allowed = epsilon_at(spent, DELTA) if spent else np.inf
    return right_guesses(moved(run), members, GUESSES), allowed


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize(
    "options", [{}, {"adaptive_clip": 0.5}], ids=["fixed clip", "adaptive clip"]
)
def test_a_round_shows_no_more_of_a_client_than_it_says(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_key.secrets, "token_bytes", np.random.default_rng(0).bytes)
    options = {**options, "update_clip": 0.5}
    found = {}
    for sigma in (0.0, 2.0):
        more = {**options, "update_noise": sigma}
        rounds = [attacked(tmp_path / f"{sigma}-{n}" / "run", n, more) for n in range(RUNS)]
        right = sum(one for one, _ in rounds)
        found[sigma] = proved_by_one_run(right, RUNS * GUESSES, RUNS * CLIENTS, DELTA)
        allowed = rounds[0][1]
    assert found[0.0] > allowed
    assert 0.1 * allowed < found[2.0] <= allowed
