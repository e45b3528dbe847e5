"""What may be the id of a client."""

import json
from pathlib import Path

import pytest

from fedcli.errors import UsageError
from fedcli.formats.client_ids import check_client_id, is_client_id
from fedcli.formats.metadata import Metadata

BAD_IDS = ("", ".", "..", "../0", "a/b", "/a", "-1", ".a", "a\n", "a\0", "é", "٣", "x" * 65, "a b")


@pytest.mark.parametrize("name", BAD_IDS)
def test_what_is_no_client_id(tmp_path: Path, name: str) -> None:
    assert not is_client_id(name)
    with pytest.raises(UsageError):
        check_client_id(name)
    for metadata in ({"client": name}, {"updates": {name: "f" * 64}}):
        text = json.dumps({"format": 1, "kind": "partial", "run": "f", **metadata})
        with pytest.raises(ValueError, match="expected a client id"):
            Metadata.decode(text)
