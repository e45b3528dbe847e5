"""The package is rooms, tidy and with few others behind each; ``lint-imports`` checks layers."""

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp

import fedcli

MOST_ARROWS = 220
FLAT = {
    *("__init__", "__main__", "errors", "options", "progress", "randomness", "spelling", "system"),
    *("text", "user_code"),
}
PACKAGE = Path(fedcli.__file__).parent

MOST_LINES = 350  # of a module; most have below 200
LONGER = {
    "errors.py": "the tree of errors: who looks for one finds it beside its kin",
    "plan/train.py": "one section of the plan: every option of training is declared in its class",
}
MOST_OF_A_BODY = 40  # lines of a function below its signature, which may declare options


def room_of(module: str) -> str:
    """The room that a module is in; the modules that lie flat are one together."""
    name = module.split(".")[1] if "." in module else "__init__"
    return "root" if name in FLAT else name


def test_nothing_lies_flat_but_the_vocabulary_of_all_rooms() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == FLAT


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


def test_modules_are_short() -> None:
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name for name, lines in lengths.items() if lines > MOST_LINES} == LONGER.keys()


def bodies(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a module, with the lines of each below its signature and docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node.name, (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(PACKAGE)}: {name}": lines
        for path in PACKAGE.rglob("*.py")
        for name, lines in bodies(path)
        if lines > MOST_OF_A_BODY
    }
    assert not long
