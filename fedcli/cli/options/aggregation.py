"""The options of aggregation and of sampling, which the plan sets and a step can override."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from fedcli.cli.options.groups import Group

_option = partial(typer.Option, rich_help_panel="Aggregation")
_server_option = partial(typer.Option, rich_help_panel="Server optimizer")
_limit_option = partial(typer.Option, rich_help_panel="Limits of updates")
_sampling_option = partial(typer.Option, rich_help_panel="Sampling of clients")


@dataclass(frozen=True)
class _ReducingOptions(Group):
    """How the clients' models become one."""

    strategy: Annotated[
        str | None,
        _option(
            help="A reducer and a server optimizer by one name; fedcli aggregate --list prints"
            " them all. (default: fedavg)",
            metavar="NAME",
        ),
    ] = None
    reduce: Annotated[
        str | None,
        _option(
            help="How the clients' models become one: a reducer, or package.module:function.",
            metavar="NAME",
        ),
    ] = None
    weighting: Annotated[
        str | None, _option(help="What a client's weight is made of.", metavar="NAME")
    ] = None
    trim: Annotated[
        float | None,
        _option(help="trimmed-mean: share cut off at each end. (default: 0.2)", metavar="SHARE"),
    ] = None
    byzantine: Annotated[
        int | None,
        _option(
            help="krum, multi-krum, bulyan: how many clients may be hostile.",
            metavar="F",
        ),
    ] = None
    keep: Annotated[
        int | None, _option(help="multi-krum: how many clients are averaged.", metavar="M")
    ] = None
    clip_norm: Annotated[
        float | None,
        _option(help="clipped-mean, centered-clipping: the longest step.", metavar="C"),
    ] = None
    iterations: Annotated[
        int | None, _option(help="rfa, centered-clipping: number of iterations.", metavar="N")
    ] = None
    smoothing: Annotated[
        float | None, _option(help="rfa: the least distance that counts.", metavar="NU")
    ] = None
    q: Annotated[
        float | None, _option(help="qfedavg: 0 is the plain mean, more is fairer.", metavar="Q")
    ] = None
    buffer: Annotated[
        int | None, _option(help="fedbuff: updates that make a round.", metavar="K")
    ] = None
    max_staleness: Annotated[
        int | None, _option(help="fedbuff: rounds that an update may be behind.", metavar="S")
    ] = None


@dataclass(frozen=True)
class ServerOptions(Group):
    """How the server steps from the old global model towards the new one."""

    server_optimizer: Annotated[
        str | None,
        _server_option(
            help="How the server steps towards the result: sgd, adam, yogi, adagrad, scaffold or"
            " feddyn.",
            metavar="NAME",
        ),
    ] = None
    server_lr: Annotated[
        float | None, _server_option(help="Learning rate of the server optimizer.", metavar="RATE")
    ] = None
    server_momentum: Annotated[
        float | None, _server_option(help="Momentum of the server's SGD.", metavar="M")
    ] = None
    beta1: Annotated[
        float | None, _server_option(help="adam, yogi, adagrad: decay of the mean.", metavar="B")
    ] = None
    beta2: Annotated[
        float | None, _server_option(help="adam, yogi: decay of the mean square.", metavar="B")
    ] = None
    tau: Annotated[
        float | None,
        _server_option(help="adam, yogi, adagrad: added to the denominator.", metavar="T"),
    ] = None
    bias_correction: Annotated[
        bool | None, _server_option(help="adam, yogi: correct for the zeros they start from.")
    ] = None


@dataclass(frozen=True)
class SamplingOptions(Group):
    """How many clients take part in a round; None is what the plan says."""

    clients_per_round: Annotated[
        int | None,
        _sampling_option(help="Clients drawn for each round. (default: all)", metavar="N"),
    ] = None
    fraction: Annotated[
        float | None,
        _sampling_option(help="The same as a share of the clients. (default: 1)", metavar="C"),
    ] = None


@dataclass(frozen=True)
class LimitOptions(Group):
    """What an update must not exceed; None is what the plan says."""

    max_norm: Annotated[
        float | None,
        _limit_option(
            help="Leave out updates whose change has a larger norm. (default: any)",
            metavar="NORM",
        ),
    ] = None
    max_examples: Annotated[
        int | None,
        _limit_option(
            help="Leave out updates that say they are of more examples. (default: 1e9)",
            metavar="N",
        ),
    ] = None


@dataclass(frozen=True)
class AggregationOptions(LimitOptions, SamplingOptions, ServerOptions, _ReducingOptions):
    """Section ``aggregate`` of the plan; None is what the plan says, or else the strategy.

    A dataclass has the fields of its last base first: they stand in the order of this file.
    """
