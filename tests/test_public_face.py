"""What ``import fedcli`` offers: every name is there, and none costs torch before it is used."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
from support.pages import PAGES, README

import fedcli


@pytest.mark.parametrize("name", dir(fedcli))
def test_every_name_is_there(name: str) -> None:
    assert getattr(fedcli, name) is not None


def test_the_names_of_the_commands_are_functions() -> None:
    from fedcli.cli import COMMANDS

    others = {"run": "run_rounds", "plan": "plan_template"}  # rooms have these names
    names = {others.get(name, name.replace("-", "_")) for name in COMMANDS}
    assert names <= set(dir(fedcli))
    assert all(callable(getattr(fedcli, name)) for name in names)


def fedcli_types(annotation: Any) -> Iterator[type]:
    """The classes of fedcli that a type is made of."""
    if isinstance(annotation, type) and annotation.__module__.startswith("fedcli"):
        yield annotation
    for part in get_args(annotation):
        yield from fedcli_types(part)


def test_what_public_functions_take_and_return_is_public() -> None:
    public = [getattr(fedcli, name) for name in dir(fedcli)]
    for function in filter(inspect.isfunction, public):
        for annotation in get_type_hints(function).values():
            assert set(fedcli_types(annotation)) <= {one for one in public if isinstance(one, type)}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'no_such'"):
        _ = fedcli.no_such


def test_the_face_imports_nothing_before_it_is_used() -> None:
    code = (
        "import sys, fedcli; assert not [m for m in sys.modules if m.startswith('fedcli.')];"
        "from fedcli import Run, FedcliError, status, verify, report, aggregate, run_rounds;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_aggregation_loads_no_generators_and_draws_nothing_before_it_starts() -> None:
    """They take a twentieth of what the process has resident before it reads an update."""
    code = (
        "import sys, fedcli.cli.commands.aggregate, fedcli.steps.aggregate;"
        "print([n for n in ('torch', 'numpy.random', 'rich') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    assert done.stdout.decode().strip() == "[]"


def test_pages_import_from_nowhere_else() -> None:
    for page in (*PAGES, README):
        assert "from fedcli." not in page.read_text(encoding="utf-8"), page
