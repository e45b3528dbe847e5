"""What is shown holds no control characters, whatever is in the files that it is from."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.runs import run_info

from fedcli.cli.render.output import escaped, print_json
from fedcli.formats.metadata import Kind


@given(text=st.text(st.characters(), max_size=20))
def test_json_on_a_terminal_has_no_control_characters(text: str) -> None:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print_json({"name": text, text: [text]})
    printed = out.getvalue().removesuffix("\n")
    assert printed.isprintable()
    assert json.loads(printed)["name"] == text


def test_results_are_shown_without_control_characters() -> None:
    shown = escaped({"\x1b": (Path("a\x9b"), ["\u202e"], Kind.SHARD, 1.5, None)})
    assert shown == {"\\x1b": (Path("a\\x9b"), ["\\u202e"], Kind.SHARD, 1.5, None)}
    info = escaped(run_info(("a",)))
    assert info == run_info(("a",))
