"""Commands in the process of the tests, and the words that make a run without data."""

import pytest

from fedcli.cli import execute

MAKE = ["init", "--num-classes", "2", "--model", "linear", "--image-size", "4", "--quiet"]
TEN = ["--clients", "0,1,2,3,4,5,6,7,8,9"]


def printed(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    """Run a command that ends well, and return what it printed."""
    assert execute([*line]) == 0
    return capsys.readouterr().out
