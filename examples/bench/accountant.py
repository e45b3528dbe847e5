"""What does the accountant say, what do others say, and how long does it take?

    python examples/bench/accountant.py [--quick]

Printed is a table with a row for each case: q, σ, the number T of sums, δ, the relation, ε by
``fedcli.privacy``, and the seconds it took. Beside it stand ε by the exact formula in 50 digits,
where q is 1, and by ``dp-accounting`` called directly, from privacy loss distributions (PLD) and
from Rényi divergences (RDP), whose σ counts the distance between neighbours and so says nothing
about replacing one. Then come targets at δ = 1e-5, the σ that calibration finds, and ε at that σ.
``--quick`` leaves out the cases with q below 1, which need ``pip install 'fedcli[dp]'``.
"""

import argparse
import logging
import time
from dataclasses import replace
from typing import Any

from mpmath import mp

from fedcli.formats.ledger import Mechanism, PrivacyEvent, Relation
from fedcli.privacy import calibrate, epsilon_at

CASES = [
    (0.01, 1.0, 1000, 1e-5, Relation.ADD_REMOVE),
    (0.01, 4.0, 10000, 1e-5, Relation.ADD_REMOVE),
    (256 / 60000, 1.1, 14062, 1e-5, Relation.ADD_REMOVE),
    (0.1, 1.0, 100, 1e-5, Relation.ADD_REMOVE),
    (0.1, 2.0, 50, 1e-3, Relation.ADD_REMOVE),
    (0.5, 1.5, 20, 1e-3, Relation.ADD_REMOVE),
    (0.001, 0.6, 5000, 1e-6, Relation.ADD_REMOVE),
    (0.1, 1.0, 100, 1e-5, Relation.REPLACE),
    (1.0, 1.0, 1, 1e-5, Relation.ADD_REMOVE),
    (1.0, 5.0, 10, 1e-5, Relation.ADD_REMOVE),
    (1.0, 10.0, 50, 1e-6, Relation.ADD_REMOVE),
    (1.0, 5.0, 10, 1e-5, Relation.REPLACE),
]
TARGETS = [(0.1, 100, 4.0), (1.0, 10, 8.0), (1.0, 10, 2.0)]
DELTA = 1e-5  # of the targets


def event_of(q: float, sigma: float, count: int, relation: Relation) -> PrivacyEvent:
    mechanism = Mechanism.POISSON if q < 1 else Mechanism.GAUSSIAN
    return PrivacyEvent(mechanism, sigma, 1.0, 1.0, relation, q, count)


def exact(event: PrivacyEvent, delta: float) -> str:
    """ε by the formula in 50 digits; nothing for samples."""
    if event.q < 1:
        return ""
    mp.dps = 50
    sensitivity = 2 if event.relation == Relation.REPLACE else 1
    mu = sensitivity * mp.sqrt(event.count) / mp.mpf(event.sigma)

    def excess(epsilon: Any) -> Any:
        near, far = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
        return mp.ncdf(near) - mp.exp(epsilon) * mp.ncdf(far) - mp.mpf(delta)

    root = mp.findroot(excess, (0, 50), solver="bisect", maxsteps=100, verify=False)
    return f"{float(root):.5f}"


def others(event: PrivacyEvent, delta: float) -> list[str]:
    """ε by the PLD and the RDP accountant of dp-accounting; nothing where it is not there."""
    try:
        import dp_accounting
        from dp_accounting import pld, rdp
    except ImportError:
        return ["", ""]
    replaced = event.relation == Relation.REPLACE
    known = dp_accounting.NeighboringRelation
    relation = known.REPLACE_ONE if replaced else known.ADD_OR_REMOVE_ONE
    noise = dp_accounting.GaussianDpEvent(event.sigma)
    each = noise if event.q == 1 else dp_accounting.PoissonSampledDpEvent(event.q, noise)
    found = []
    for accountant in (pld.PLDAccountant, rdp.RdpAccountant):
        one = accountant(neighboring_relation=relation)
        if not one.supports(each) or (accountant is rdp.RdpAccountant and replaced):
            found.append("")
            continue
        found.append(f"{one.compose(each, event.count).get_epsilon(delta):.5f}")
    return found


def case(q: float, sigma: float, count: int, delta: float, relation: Relation) -> str:
    event = event_of(q, sigma, count, relation)
    began = time.perf_counter()
    found = epsilon_at([event], delta)
    seconds = time.perf_counter() - began
    figures = [f"{found:.5f}", exact(event, delta), *others(event, delta), f"{seconds:.2f}"]
    given = [f"{q:.4g}", f"{sigma:g}", str(count), f"{delta:.0e}", relation.value]
    return f"| {' | '.join([*given, *figures])} |"


def target(q: float, count: int, epsilon: float) -> str:
    event = event_of(q, 1.0, count, Relation.ADD_REMOVE)
    began = time.perf_counter()
    sigma = calibrate(event, epsilon, DELTA)
    seconds = time.perf_counter() - began
    reached = epsilon_at([replace(event, sigma=sigma)], DELTA)
    cells = [f"{q:g}", str(count), f"{epsilon:g}", f"{sigma:.5f}", f"{reached:.5f}"]
    return f"| {' | '.join([*cells, f'{seconds:.2f}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="leave out samples")
    quick = parser.parse_args().quick
    logging.getLogger("absl").setLevel(logging.ERROR)  # orders at which RDP does not converge
    if not quick:
        epsilon_at([event_of(0.5, 1.0, 1, Relation.ADD_REMOVE)], DELTA)  # imports it
    print("| q | σ | T | δ | relation | ε | exact | PLD | RDP | seconds |")
    print("| --: | --: | --: | --: | --- | --: | --: | --: | --: | --: |")
    for each in CASES:
        if each[0] == 1 or not quick:
            print(case(*each), flush=True)
    print("\n| q | T | target ε | σ | ε | seconds |\n| --: | --: | --: | --: | --: | --: |")
    for q, count, epsilon in TARGETS:
        if q == 1 or not quick:
            print(target(q, count, epsilon), flush=True)


if __name__ == "__main__":
    main()
