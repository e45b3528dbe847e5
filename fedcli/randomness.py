"""Random numbers: every purpose has its own stream, derived from the seed."""

import hashlib

import numpy as np  # it imports its generators at their first use, which few commands have


def stream_seed(seed: int, *key: str | int) -> int:
    """Derive a 63-bit seed from the run's seed and a key such as (round, client, purpose).

    The entropy of ``numpy.random.SeedSequence`` is the seed and 32-bit words of the key's
    SHA-256, so that streams of different keys are independent of each other.
    """
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    words = np.frombuffer(digest, "<u4").tolist()
    state = np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def stream(seed: int, *key: str | int) -> "np.random.Generator":
    """Return numpy's generator for a key; see ``stream_seed``."""
    return np.random.default_rng(stream_seed(seed, *key))
