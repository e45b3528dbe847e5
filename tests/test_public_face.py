"""What ``import fedcli`` offers: every name is there, and none costs torch before it is used."""

import ast
from pathlib import Path

import pytest
from support.pages import PAGES
from support.runs import python

import fedcli


@pytest.mark.parametrize("name", fedcli.__all__)
def test_every_name_is_what_type_checkers_see(name: str) -> None:
    found = getattr(fedcli, name)
    for node in ast.walk(ast.parse(Path(fedcli.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            module = __import__(str(node.module), fromlist=[name])
            assert getattr(module, name) is found
            return
    pytest.fail(f"{name} is not imported for type checkers")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'no_such'"):
        _ = fedcli.no_such
    assert "train_client" in dir(fedcli)


def test_the_face_imports_nothing_before_it_is_used() -> None:
    code = (
        "import sys, fedcli; assert not [m for m in sys.modules if m.startswith('fedcli.')];"
        "from fedcli import Run, FedcliError, status, verify, report, aggregate, run_rounds;"
        "assert 'torch' not in sys.modules"
    )
    done = python(code)
    assert done.status == 0, done.err


def test_pages_import_from_nowhere_else() -> None:
    for page in PAGES:
        assert "from fedcli." not in page.read_text(encoding="utf-8"), page
