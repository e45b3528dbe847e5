"""The package is rooms, each with few others behind it; ``lint-imports`` checks their layers."""

from pathlib import Path

import grimp

import fedcli

MOST_ARROWS = 220
FLAT = {
    *("__init__", "__main__", "errors", "options", "progress", "randomness", "system", "text"),
    "user_code",
    "words",
}


def room_of(module: str) -> str:
    """The room that a module is in; the modules that lie flat are one together."""
    name = module.split(".")[1] if "." in module else "__init__"
    return "root" if name in FLAT else name


def test_nothing_lies_flat_but_the_vocabulary_of_all_rooms() -> None:
    assert {path.stem for path in Path(fedcli.__file__).parent.glob("*.py")} == FLAT


def test_few_rooms_import_each_other() -> None:
    graph = grimp.build_graph("fedcli", cache_dir=None, exclude_type_checking_imports=False)
    arrows = {
        (room_of(module), room_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    between = {(one, other) for one, other in arrows if one != other}
    assert len(between) <= MOST_ARROWS
    assert len({room for arrow in between for room in arrow}) <= 30
