"""The options of ``partition``: which data, and how it is cut."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fedcli.cli.options.groups import Group
from fedcli.cli.options.shared import comma_list
from fedcli.errors import UsageError

if TYPE_CHECKING:
    from fedcli.partitioning import Scheme
    from fedcli.steps.partition import Source

Number = TypeVar("Number", int, float)

_option = partial(typer.Option, rich_help_panel="Cutting")
_data_option = partial(typer.Option, rich_help_panel="Data")


@dataclass(frozen=True)
class DataSetOptions(Group):
    """The data set, and what of it is used, tested on and held out."""

    dataset: Annotated[
        str,
        _data_option(
            help="synthetic, imagefolder:PATH, npz:PATH, or a torchvision name such as cifar10.",
            metavar="SPEC",
        ),
    ] = "synthetic"
    data_dir: Annotated[
        Path, _data_option(help="Where torchvision's data sets are.", metavar="DIR")
    ] = Path("data")
    download: Annotated[
        bool, _data_option("--download", help="Download a torchvision data set first.")
    ] = False
    image_size: Annotated[
        int | None,
        _data_option(
            help="Make pictures N×N. (default: the size of the first, its shorter side at most"
            " 224)",
            metavar="N",
        ),
    ] = None
    group: Annotated[
        str | None,
        _data_option(
            help="Where the pictures of an imagefolder come from, for --scheme natural: folder, or"
            " a column of the CSV file beside them.",
            metavar="NAME",
        ),
    ] = None
    limit: Annotated[
        int | None,
        _data_option(
            help="Use N training examples only, each class in proportion; of the test set the"
            " same share.",
            metavar="N",
        ),
    ] = None
    test_fraction: Annotated[
        float,
        _data_option(help="Test share of data that has no test part.", metavar="F"),
    ] = 0.2
    test_split: Annotated[
        str,
        _data_option(
            help="Who has test examples: server (one set for all), client (each its own), both.",
            metavar="WHO",
        ),
    ] = "server"
    val_fraction: Annotated[
        float,
        _data_option(help="Share of each client's examples to hold out.", metavar="F"),
    ] = 0.0


@dataclass(frozen=True)
class CuttingOptions(Group):
    """How the training examples are cut into clients; None is what the scheme says."""

    scheme: Annotated[
        str | None,
        _option(
            help="How to cut; --list prints all. (default: the first in the list that uses the"
            " options given, else iid)",
            metavar="NAME",
        ),
    ] = None
    clients: Annotated[
        int | None,
        _option(
            help="Number of clients. (default: 3; the number of --labels, of --sizes, or of"
            " groups)",
            metavar="N",
        ),
    ] = None
    labels: Annotated[
        list[str] | None,
        _option(
            help="labels: the classes of one client, such as 0,1 or cat,dog; once for each client.",
            metavar="LIST",
        ),
    ] = None
    alpha: Annotated[
        float | None,
        _option(
            help="dirichlet, inner-dirichlet: the smaller, the more skewed. (default: 0.5)",
            metavar="A",
        ),
    ] = None
    min_size: Annotated[
        int | None,
        _option(
            help="dirichlet, inner-dirichlet, quantity: the least examples of a client."
            " (default: 1)",
            metavar="N",
        ),
    ] = None
    balance: Annotated[
        bool | None,
        _option(
            "--balance",
            help="dirichlet: a client that has its even share gets nothing of further classes.",
        ),
    ] = None
    classes_per_client: Annotated[
        int | None,
        _option(help="pathological: the classes of each client. (default: 2)", metavar="K"),
    ] = None
    assignment: Annotated[
        str | None,
        _option(
            help="pathological: random, or deterministic (client i: i, i + 1, …)."
            " (default: random)",
            metavar="NAME",
        ),
    ] = None
    shards_per_client: Annotated[
        int | None, _option(help="shards: pieces for each client. (default: 2)", metavar="S")
    ] = None
    quantity: Annotated[
        str | None,
        _option(
            help="quantity, inner-dirichlet: sizes even, linear, square, exponential or"
            " log-normal. (default: linear; even)",
            metavar="NAME",
        ),
    ] = None
    sizes: Annotated[
        str | None,
        _option(
            help="quantity, inner-dirichlet: the sizes themselves, such as 100,200,700.",
            metavar="LIST",
        ),
    ] = None
    sigma: Annotated[
        float | None,
        _option(
            help="feature-noise: variance of the last client's noise, of 1 (default: 0.1);"
            " --quantity log-normal: deviation of the logarithm (default: 0.3).",
            metavar="S",
        ),
    ] = None
    angles: Annotated[
        str | None,
        _option(
            help="feature-rotate: degrees for each client, such as 0,90,180,270."
            " (default: evenly spaced)",
            metavar="LIST",
        ),
    ] = None


def make_source(options: DataSetOptions) -> "Source":
    """Build the source that the options describe. Raises ``UsageError``."""
    from fedcli.steps.partition import Source

    values = options.given()
    return Source(values.pop("dataset"), **values)


def make_scheme(options: CuttingOptions) -> "Scheme":
    """Build the scheme that the options ask for.

    Raises ``UsageError`` for an option that the scheme does not use, and for what is no number.
    """
    from fedcli.partitioning import Scheme, scheme_for

    given = options.given()
    if labels := given.pop("labels", None):
        # an empty name is left in, so that it is refused as no class
        given["labels"] = tuple(tuple(name.strip() for name in one.split(",")) for one in labels)
    if options.sizes is not None:
        given["sizes"] = _numbers("--sizes", options.sizes, int)
    if options.angles is not None:
        given["angles"] = _numbers("--angles", options.angles, float)
    name = given.pop("scheme", None) or scheme_for(given.keys() - {"clients"})
    return Scheme(name, **given)


def _numbers(option: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    try:
        numbers = tuple(map(kind, comma_list(text)))
    except ValueError:
        numbers = ()
    if not numbers:
        raise UsageError(f"{option}: expected numbers such as 100,200,700, found {text!r}")
    return numbers
