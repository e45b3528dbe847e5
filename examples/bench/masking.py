"""Measure secure aggregation: how long a client masks its update, and what opening the sum takes.

    python examples/bench/masking.py [--values N] [--threads N] [--noise SIGMA] [CLIENTS ...]

The default is the size of ResNet-18 for 10 classes, with 3 and 10 clients. With ``--noise``, each
client also shortens its step to the norm 1 and adds its part of the noise. It needs
``pip install 'fedcli[sign]'``, and prints one line for each number of clients.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np

from fedcli.masking.cohort import Cohort, MaskedRound
from fedcli.masking.keys import MaskingKey, read_masking_key
from fedcli.masking.masks import add_masks, mask
from fedcli.masking.noise import add_noise, shortened
from fedcli.masking.pairwise import Agreement
from fedcli.masking.quantise import Floats, Grid
from fedcli.masking.shares import SealedShares, seal, unseal
from fedcli.masking.unmasking import answer, masks_to_remove
from fedcli.plan import AggregatePlan
from fedcli.plan.masked_noise import MaskedNoise
from fedcli.plan.secagg import SecaggOptions, least_threshold
from fedcli.security.key_files import write_key_file

RESNET18 = 11_181_642
REPEATS = 3
Result = TypeVar("Result")


def timed(what: Callable[[], Result]) -> tuple[float, Result]:
    """Return the least of several times, in seconds, and the result."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        result = what()
        times.append(time.perf_counter() - started)
    return min(times), result


def keys(folder: Path, clients: int) -> dict[str, MaskingKey]:
    found = {}
    for number in range(clients):
        path = folder / f"{number}.key"
        write_key_file(path, outside=folder / "run")
        found[str(number)] = read_masking_key(path)
    return found


def size_of(sealed: SealedShares) -> int:
    return sum(map(len, sealed.sealed.values()))


def noisy(own: Agreement, step: Floats, sigma: float) -> tuple[float, float]:
    """Return the seconds for shortening a step to the norm 1, and for adding noise to it."""
    clients, rule = len(own.cohort.members), AggregatePlan(update_clip=1.0, update_noise=sigma)
    secagg = SecaggOptions(secagg=True).planned(clients, rule)
    assert secagg is not None
    noise = MaskedNoise.of(secagg, rule)
    assert noise is not None
    grid = Grid(secagg.clip, secagg.bits, clients)
    shortening, short = timed(lambda: shortened(grid, noise, step))
    adding, _ = timed(lambda: add_noise(noise, own, short.values))
    return shortening, adding


def measure(owned: dict[str, MaskingKey], values: int, threads: int, sigma: float | None) -> str:
    clients = len(owned)
    public = {name: key.public for name, key in owned.items()}
    where = MaskedRound("0" * 64, 1, 1)
    cohort = Cohort(public, least_threshold(clients), where)
    step = np.random.default_rng(0).normal(0, 0.01, values).astype(np.float32)
    grid = Grid(0.1, 20, clients)
    quantising, quantised = timed(lambda: grid.quantise(step))
    agreements = {name: Agreement.of(cohort, name, key) for name, key in owned.items()}
    agreeing, own = timed(lambda: Agreement.of(cohort, "0", owned["0"]))
    masking, masked = timed(lambda: mask(own, quantised.values, threads))
    more = ""
    if sigma is not None:
        shortening, adding = noisy(own, step, sigma)
        more = f"; with noise: {shortening:.2f} s in place of the grid, {adding:.2f} s for noise"
    sealing, sealed = timed(lambda: seal(own, masked.seeds, "0"))
    # the last third drops out: one client's files stand for all that came
    survivors = list(public)[: cohort.threshold]
    files = {i: seal(agreements[i], agreements[i].seeds("0"), "0") for i in survivors}
    answering, one = timed(lambda: give(cohort, agreements["0"], files))
    answers = [give(cohort, agreements[k], files) for k in survivors]
    committed = {i: file.commitments for i, file in files.items()}
    rebuilding, masks = timed(lambda: masks_to_remove(cohort, committed, answers))
    opening, _ = timed(lambda: add_masks(masked.words.copy(), masks, threads))
    assert one == answers[0]
    whole = quantising + agreeing + masking + sealing
    return (
        f"{clients} clients, {threads} threads: a client {whole:.2f} s"
        f" (grid {quantising:.2f}, masks {masking:.2f}, keys and shares {agreeing + sealing:.3f});"
        f" file {4 * values / 1e6:.1f} MB, shares {size_of(sealed) / 1e3:.1f} kB;"
        f" an answer {answering:.3f} s; opening without {clients - len(survivors)}:"
        f" {rebuilding:.3f} s for {len(masks)} seeds, {opening:.2f} s for their masks"
        f"{more}"
    )


def give(cohort: Cohort, agreement: Agreement, files: dict[str, SealedShares]) -> object:
    member = agreement.member
    opened = {i: unseal(agreement, i, "0", file.sealed[member]) for i, file in files.items()}
    return answer(cohort, member, opened)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", type=int, nargs="*", default=[3, 10])
    parser.add_argument("--values", type=int, default=RESNET18)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--noise", type=float, metavar="SIGMA")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for clients in asked.clients:
            path = Path(folder) / str(clients)
            print(
                measure(keys(path, clients), asked.values, asked.threads, asked.noise), flush=True
            )


if __name__ == "__main__":
    main()
