"""Run small parts of other programs' privacy, and print what they do.

    pip install --no-deps flwr openfl nvflare
    python examples/bench/privacy_of_peers.py

They also need the packages that an error names. What is not installed is left out, and said. Each
line is one fact: the program, what was asked, and what came out. docs/privacy-peers.md says what
follows.
"""

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from fedcli.privacy.clipping import next_clip

Facts = Iterator[tuple[str, str]]
CLIENTS, ROUNDS = 100, 100
STARTS = (0.1, 0.5, 10.0)


def flower() -> Facts:
    strategies = importlib.import_module("flwr.serverapp.strategy")
    privacy = importlib.import_module("flwr.supercore.differential_privacy")
    for start in STARTS:
        rule = strategies.DifferentialPrivacyServerSideAdaptiveClipping(
            strategies.FedAvg(), 0.0, CLIENTS, initial_clipping_norm=start
        )
        yield f"adaptive clip of steps of length 1, from {start:g}", f"{_moved(rule, privacy):.2g}"
    yield "a client whose step is zero", _outcome(privacy.clip_inputs_inplace, [np.zeros(2)], 1.0)
    yield "noise after the same numpy.random.seed", _same(lambda: _noise(privacy, np.zeros(5)))
    yield "an integer counter of 7 after noise", str(_noise(privacy, np.array([7]))[0])
    yield from _flower_masks()


def _moved(rule: Any, privacy: Any) -> float:
    """The clip after some rounds, as ``aggregate_train`` moves it, without noise on the count."""
    for _ in range(ROUNDS):
        clipped = [
            privacy.adaptive_clip_inputs_inplace([np.array([0.6, 0.8])], rule.clipping_norm)
            for _ in range(CLIENTS)
        ]
        rule._geometric_update(rule._noisy_fraction(sum(clipped), CLIENTS))
    return float(rule.clipping_norm)


def _noise(privacy: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    np.random.seed(3)
    privacy.add_gaussian_noise_inplace([values], 5.0)
    return values


def _same(draw: Callable[[], np.ndarray[Any, Any]]) -> str:
    return "the same" if np.array_equal(draw(), draw()) else "another one"


def _outcome(step: Callable[..., Any], *values: Any) -> str:
    try:
        return str(step(*values))
    except Exception as error:
        return type(error).__name__


def _flower_masks() -> Facts:
    masks = importlib.import_module("flwr.common.secure_aggregation.secaggplus_utils")
    keys = importlib.import_module("flwr.supercore.primitives.asymmetric").generate_key_pairs
    crypto = importlib.import_module("flwr.common.secure_aggregation.crypto.symmetric_encryption")
    seed = os.urandom(32)
    swapped = seed[4:8] + seed[:4] + seed[8:]
    drawn = [masks.pseudo_rand_gen(one, 2**32, [(100,)])[0] for one in (seed, swapped)]
    yield "masks of two seeds with the same words in another order", _same(lambda: drawn.pop())
    folded = 0
    for _ in range(300):
        key = crypto.generate_shared_key(keys()[0], keys()[1])
        folded |= int(np.bitwise_xor.reduce(np.frombuffer(key, "<u4")))
    yield "bits of the seed of a pairwise mask that are ever set", str(folded.bit_count())
    client = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
    state = client.SecAggPlusState(threshold=2)
    state.rd_seed_share_dict = {1: b"seed of 1", 2: b"seed of 2"}
    state.sk1_share_dict = {1: b"key of 1", 2: b"key of 2"}
    answer = client._unmask(state, {"active_nids": [1, 2], "dead_nids": [2]})
    yield "a request that lists client 2 as active and as dead", str(answer["shares"])


def fedcli() -> Facts:
    for start in STARTS:
        clip = start
        for _ in range(ROUNDS):
            clip = next_clip(clip, float(clip >= 1), 0.5, 0.2)  # the share of shorter steps
        yield f"adaptive clip of steps of length 1, from {start:g}", f"{clip:.2g}"


def openfl() -> Facts:
    collaborator = importlib.import_module("openfl.component.collaborator.collaborator")
    crypto = importlib.import_module("openfl.utilities.secagg.crypto")
    values = np.array([0.0, 0.25, 1.0])
    sent = {("weight", "mercy", 0, False, ("trained",)): values}
    masks = SimpleNamespace(
        _private_mask=crypto.pseudo_random_generator(0.5),
        _shared_mask=crypto.calculate_shared_mask([(1, 2, b"an agreed key")]),
    )
    collaborator.Collaborator._apply_masks(masks, sent)
    (masked,) = sent.values()
    yield "differences of the values 0, 0.25 and 1 after masking", str(np.diff(masked).round(12))


def nvflare() -> Facts:
    filters = importlib.import_module("nvflare.app_common.filters.svt_privacy")
    exchange = importlib.import_module("nvflare.apis.dxo")
    context = importlib.import_module("nvflare.apis.fl_context").FLContext()
    shareable = importlib.import_module("nvflare.apis.shareable").Shareable()
    start = importlib.import_module("nvflare.apis.event_type").EventType.START_RUN
    used = filters.SVTPrivacy()
    data = exchange.DXO(exchange.DataKind.WEIGHT_DIFF, {"weight": np.ones(20)})
    used.process_dxo(data, shareable, context)
    yield "ε of one step of SVTPrivacy, by its ledger", f"{used.get_privacy_spent():g}"
    used.handle_event(start, context)
    yield "the same after the next job has started", f"{used.get_privacy_spent():g}"


PEERS: dict[str, tuple[str, Callable[[], Facts]]] = {
    "fedcli": ("fedcli", fedcli),
    "Flower": ("flwr", flower),
    "OpenFL": ("openfl", openfl),
    "NVFLARE": ("nvflare", nvflare),
}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    for name, (package, facts) in PEERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"| {name} | is not installed | |")
            continue
        version = importlib.metadata.version(package)
        for asked, found in facts():
            print(f"| {name} {version} | {asked} | {found} |", flush=True)


if __name__ == "__main__":
    main()
