"""What the help and the pages say about an option: its text, its default, and whose it is."""

from dataclasses import dataclass

import pytest

from fedcli.options import declared, default_text, help_text, inner_text, option, owned


@dataclass(frozen=True)
class Oven:
    """An oven with an option of every kind."""

    heat: float = option(180.0, "Heat of the oven.", "C")
    timer: int | None = option(None, "Minutes until it rings.", "N")
    fan: bool = option(True, "Turn the fan on.")
    light: bool = option(False, "Turn the light on.", flag=True)
    dishes: tuple[str, ...] = option((), "What is in it.", "NAMES")
    mode: str = option("", "`bake` or `grill`.", "NAME", unset="`bake`")


@dataclass(frozen=True)
class Toaster:
    """Something else that has heat, but not the same."""

    heat: float = option(150.0, "Heat of the slots.", "C")


@dataclass(frozen=True)
class Grill:
    """Something that says the same of its heat as an oven."""

    heat: float = option(150.0, "Heat of the oven.", "C")


@pytest.mark.parametrize(
    ("name", "default", "text"),
    [
        ("heat", "`180`", "Heat of the oven [180]"),
        ("timer", "off", "Minutes until it rings"),
        ("fan", "on", "Turn the fan on [on]"),
        ("light", "off", "Turn the light on"),
        ("dishes", "none", "What is in it"),
        ("mode", "`bake`", "bake or grill [bake]"),
    ],
)
def test_an_option_tells_its_default(name: str, default: str, text: str) -> None:
    one = declared(Oven)[name]
    assert (default_text(one), help_text(one)) == (default, text)


def test_the_help_of_one_owner_names_it_once() -> None:
    one = owned({"oven": declared(Oven)["heat"]})
    assert help_text(one) == "oven: heat of the oven [180]"


def test_owners_that_differ_are_told_apart() -> None:
    one = owned({"oven": declared(Oven)["heat"], "toaster": declared(Toaster)["heat"]})
    assert one.option.help == "`oven`: heat of the oven; `toaster`: heat of the slots."
    assert default_text(one) == "`180` for `oven`; `150` for `toaster`"


def test_owners_that_agree_share_a_text() -> None:
    heats = {name: declared(row)["heat"] for name, row in (("oven", Oven), ("grill", Grill))}
    assert help_text(owned(heats)) == (
        "oven, grill: heat of the oven [180 for oven; 150 for grill]"
    )
    same = owned({"a": declared(Grill)["heat"], "b": declared(Grill)["heat"]})
    assert help_text(same) == "a, b: heat of the oven [150]"


def test_acronyms_keep_their_capitals_inside_a_sentence() -> None:
    assert inner_text("CPU threads.") == "CPU threads"
    assert inner_text("Local epochs.") == "local epochs"
