"""Names and messages of strangers are shown in one line that does nothing to a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcli.errors import FedcliError
from fedcli.text import brief, printable, spreadsheet_text


@given(text=st.text(st.characters(), max_size=50))
def test_any_text_can_be_shown(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert "\n" not in shown
    shown.encode()
    assert (shown == text) == text.isprintable()
    assert printable(shown) == shown
    assert len(brief(text)) <= 80
    assert FedcliError(text, hint=text).message == FedcliError(text, hint=text).hint == shown


def test_a_message_is_not_longer_than_a_path() -> None:
    assert len(FedcliError("x" * 10**6).message) == 4000
    assert len(brief(["y" * 10**6] * 100)) <= 80


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"),
        ("+1+cmd", "'+1+cmd"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", r"'\t=1+1"),
        ("\r=1+1", r"'\r=1+1"),
        ("  =1+1", "'  =1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("cat;=1+1", "cat;'=1+1"),
        ("\x1b]0;pwned\x07", r"\x1b]0;pwned\x07"),
        ("a\nb", "a b"),
        ("\udcff", r"\udcff"),
        ("-1", "-1"),
        ("+2.5e-3", "+2.5e-3"),
        ("non-small-cell", "non-small-cell"),
        ("1=2", "1=2"),
        ("", ""),
    ],
)
def test_a_cell_is_printable_and_no_formula(text: str, cell: str) -> None:
    assert spreadsheet_text(text) == cell
