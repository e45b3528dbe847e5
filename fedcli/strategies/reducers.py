"""The reducers, which turn the models of many clients into one, and what each needs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fedcli.errors import NotReadyError, UsageError
from fedcli.formats.dtypes import Array, Values
from fedcli.strategies.decision import (
    Clients,
    CoordinateWiseDecision,
    Decision,
    LinearDecision,
    Measures,
    RuleOptions,
    Shares,
)
from fedcli.strategies.ranks import mean_around_median, median, trimmed_mean
from fedcli.strategies.repeated_krum import bulyan_selection
from fedcli.strategies.reweighting import centered_clipping, foolsgold, geometric_median
from fedcli.strategies.selection import krum_of_many, krum_scores, lowest, squared_distances
from fedcli.strategies.weightings import WEIGHTINGS
from fedcli.user_code import SHOW_WHERE, with_place

Prepare = Callable[[int, RuleOptions], RuleOptions]


def _anything(_: int, options: RuleOptions) -> RuleOptions:
    return options


@dataclass(frozen=True)
class Reducer:
    """A row of ``REDUCERS``.

    ``prepare`` takes the number of updates and the options, fills in the options that depend on
    the number, and raises ``NotReadyError`` for too few. ``weightings`` names those that the rule
    is defined for, the default first, which does not rest on what clients claim; empty means all.
    With ``keeps_center``, the result is kept for the next round. A ``coordinate_wise`` rule looks
    at the values of one coordinate at a time, so that it has no use for sparse updates.
    ``ordered`` means that it holds the order of all distances beside the inner products.
    """

    summary: str
    source: str
    decide: Callable[[Clients, RuleOptions], Decision]
    options: Mapping[str, Any] = field(default_factory=dict)
    prepare: Prepare = _anything
    measures: Measures = Measures.NOTHING
    weightings: tuple[str, ...] = ("uniform",)
    keeps_center: bool = False
    coordinate_wise: bool = False
    ordered: bool = False


def _needs(rule: str, count: int, needed: int, inequality: str, hint: str) -> None:
    if count < needed:
        raise NotReadyError(
            f"{rule} needs {inequality} = {needed} updates, found {count}", hint=hint
        )


def _with_byzantine(rule: str, factor: int, count: int, options: RuleOptions) -> RuleOptions:
    """Fill in the most Byzantine clients f that a rule tolerates if n >= factor·f + 3."""
    most = max(0, (count - 3) // factor)
    byzantine = most if options["byzantine"] is None else options["byzantine"]
    lower = f", or lower --byzantine to {most}" if count >= 3 else ""
    _needs(
        f"{rule} with --byzantine {byzantine}",
        count,
        factor * byzantine + 3,
        f"n >= {factor}f + 3",
        f"wait for more updates{lower}",
    )
    return {**options, "byzantine": byzantine}


def _prepare_krum(count: int, options: RuleOptions) -> RuleOptions:
    return _with_byzantine("krum", 2, count, options)


def _prepare_multi_krum(count: int, options: RuleOptions) -> RuleOptions:
    prepared = _with_byzantine("multi-krum", 2, count, options)
    honest = count - prepared["byzantine"]
    keep = honest if options["keep"] is None else options["keep"]
    _needs(
        f"multi-krum with --keep {keep} and --byzantine {prepared['byzantine']}",
        count,
        keep + prepared["byzantine"],
        "n >= m + f",
        f"lower --keep to {honest}",
    )
    return {**prepared, "keep": keep}


def _prepare_bulyan(count: int, options: RuleOptions) -> RuleOptions:
    return _with_byzantine("bulyan", 4, count, options)


def _prepare_trimmed_mean(count: int, options: RuleOptions) -> RuleOptions:
    trim = options["trim"]
    if trim > 0:
        _needs(
            f"trimmed-mean with --trim {trim:g}",
            count,
            math.ceil(1 / trim - 1e-9),
            "n >= 1 / trim",
            "fewer updates leave nothing to trim; raise --trim, or wait for more updates",
        )
    return options


def _prepare_clipping(_: int, options: RuleOptions) -> RuleOptions:
    if options["clip_norm"] is None:
        raise UsageError(
            "--clip-norm: this rule needs the norm to which updates are clipped",
            hint="the manifest of a round (aggregate.json) lists the norms of its updates",
        )
    return options


def _mean(clients: Clients, _: RuleOptions) -> LinearDecision:
    return LinearDecision(clients.shares, median_buffers=False)


def _median(clients: Clients, _: RuleOptions) -> CoordinateWiseDecision:
    # of buffers too it is the median already
    return CoordinateWiseDecision(tuple(range(len(clients))), median, median_buffers=False)


def _trimmed_mean(clients: Clients, options: RuleOptions) -> CoordinateWiseDecision:
    cut = min(math.floor(options["trim"] * len(clients) + 1e-9), (len(clients) - 1) // 2)
    everybody = tuple(range(len(clients)))
    return CoordinateWiseDecision(everybody, lambda stack: trimmed_mean(stack, cut))


def _only(clients: Clients, chosen: tuple[int, ...]) -> LinearDecision:
    weights = np.zeros(len(clients))
    weights[list(chosen)] = 1
    return LinearDecision(Shares(weights, float(len(chosen))))


def _krum(clients: Clients, options: RuleOptions) -> LinearDecision:
    byzantine, keep = options["byzantine"], options.get("keep", 1)
    if clients.distances is not None:
        return _only(clients, krum_of_many(clients.distances, byzantine, keep))
    assert clients.gram is not None
    scores = krum_scores(squared_distances(clients.gram), byzantine)
    return _only(clients, lowest(scores, keep))


def _bulyan(clients: Clients, options: RuleOptions) -> CoordinateWiseDecision:
    assert clients.gram is not None
    byzantine = options["byzantine"]
    chosen = bulyan_selection(squared_distances(clients.gram), byzantine)
    count = len(chosen) - 2 * byzantine
    return CoordinateWiseDecision(chosen, lambda stack: mean_around_median(stack, count))


def _rfa(clients: Clients, options: RuleOptions) -> LinearDecision:
    assert clients.gram is not None
    weights, settled = geometric_median(
        clients.gram, clients.shares.weights, options["smoothing"], options["iterations"]
    )
    return LinearDecision(Shares(weights, 1.0), settled=settled)


def _clipped_mean(clients: Clients, options: RuleOptions) -> LinearDecision:
    assert clients.squares is not None
    bound = options["clip_norm"]
    factors: Values = bound / np.maximum(np.sqrt(clients.squares), bound)
    return LinearDecision(replace(clients.shares, weights=clients.shares.weights * factors))


def _centered_clipping(clients: Clients, options: RuleOptions) -> LinearDecision:
    assert clients.gram is not None
    weights, center = centered_clipping(
        clients.gram, options["clip_norm"], options["iterations"], clients.has_center
    )
    return LinearDecision(Shares(weights, 1.0), center)


def _foolsgold(clients: Clients, _: RuleOptions) -> LinearDecision:
    assert clients.gram is not None
    weights = foolsgold(clients.gram)
    return LinearDecision(Shares(weights, float(weights.sum())))


def of_function(rule: Callable[[Array, Values], Any], name: str) -> Reducer:
    """Wrap a user's own function of a block as a reducer; see ``docs/commands/aggregate.md``.

    The function takes the float64 values (clients, coordinates) and the clients' shares
    (clients,), and returns floats (coordinates,). Raises ``UsageError`` for any other result.
    """

    def decide(clients: Clients, _: RuleOptions) -> CoordinateWiseDecision:
        shares = clients.shares.weights / clients.shares.divisor

        def combine(stack: Array) -> Values:
            try:
                result = np.asarray(rule(stack.astype(np.float64), shares.copy()))
            except Exception as error:
                raise UsageError(
                    f"--reduce {name}: raised {with_place(error)}", hint=SHOW_WHERE
                ) from error
            if result.shape != stack.shape[1:] or result.dtype.kind != "f":
                raise UsageError(
                    f"--reduce {name}: expected floats of shape {list(stack.shape[1:])}, found"
                    f" {result.dtype} of shape {list(result.shape)}"
                )
            if not np.isfinite(result).all():
                raise UsageError(f"--reduce {name}: returned values that are NaN or infinite")
            return result.astype(np.float64)

        return CoordinateWiseDecision(tuple(range(len(clients))), combine, median_buffers=False)

    return Reducer("your own", name, decide, weightings=("examples", "uniform"))


REDUCERS: dict[str, Reducer] = {
    "mean": Reducer("the weighted mean", "McMahan et al. 2017, algorithm 1", _mean, weightings=()),
    "median": Reducer(
        "the coordinate-wise median", "Yin et al. 2018, definition 1", _median, coordinate_wise=True
    ),
    "trimmed-mean": Reducer(
        "the mean of each coordinate without its lowest and highest values",
        "Yin et al. 2018, definition 2",
        _trimmed_mean,
        {"trim": 0.2},
        _prepare_trimmed_mean,
        coordinate_wise=True,
    ),
    "krum": Reducer(
        "the update that is closest to its n - f - 2 nearest neighbours",
        "Blanchard et al. 2017, section 4",
        _krum,
        {"byzantine": None},
        _prepare_krum,
        Measures.DISTANCES,
    ),
    "multi-krum": Reducer(
        "the mean of the m updates with the best Krum scores",
        "Blanchard et al. 2017, section 6",
        _krum,
        {"byzantine": None, "keep": None},
        _prepare_multi_krum,
        Measures.DISTANCES,
    ),
    "bulyan": Reducer(
        "the mean around the median of the n - 2f updates that Krum chooses",
        "El Mhamdi et al. 2018, section 4",
        _bulyan,
        {"byzantine": None},
        _prepare_bulyan,
        Measures.GRAM,
        coordinate_wise=True,
        ordered=True,
    ),
    "rfa": Reducer(
        "the geometric median, by the smoothed Weiszfeld algorithm",
        "Pillutla et al. 2022 (RFA)",
        _rfa,
        {"iterations": 1000, "smoothing": 1e-6},
        measures=Measures.GRAM,
        weightings=("uniform", "examples"),
    ),
    "clipped-mean": Reducer(
        "the weighted mean of updates that are clipped to a fixed norm",
        "Sun et al. 2019 (norm clipping)",
        _clipped_mean,
        {"clip_norm": None},
        _prepare_clipping,
        Measures.SQUARES,
        weightings=("uniform", *(name for name in WEIGHTINGS if name != "uniform")),
    ),
    "centered-clipping": Reducer(
        "updates clipped around the previous round's result",
        "Karimireddy et al. 2021, section 4",
        _centered_clipping,
        {"clip_norm": None, "iterations": 1},
        _prepare_clipping,
        Measures.GRAM,
        keeps_center=True,
    ),
    "foolsgold": Reducer(
        "updates that are similar to one another count less",
        "Fung et al. 2020, algorithm 1",
        _foolsgold,
        measures=Measures.GRAM,
    ),
}
