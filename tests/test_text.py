"""Names and messages of strangers are shown in one line that does nothing to a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from fedcli.errors import FedcliError
from fedcli.text import brief, printable


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
