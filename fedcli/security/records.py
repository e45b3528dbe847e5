"""Signed records: what one party says, in canonical JSON, with an Ed25519 signature."""

import hashlib
from typing import Any

from fedcli.errors import BadInputError
from fedcli.formats.public_key import ALGORITHM
from fedcli.formats.records import encode
from fedcli.security.keys import SigningKey, verifies
from fedcli.security.signatures import DOMAIN
from fedcli.storage.atomic import canonical_json


def record_digest(record: Any) -> str:
    """Return the SHA-256 of a record, hex; equal records have equal ones."""
    return hashlib.sha256(canonical_json(encode(record))).hexdigest()


def sign_record(record: Any, key: SigningKey) -> tuple[str, Any, str]:
    """Return algorithm, record and signature: the fields of a file with a signed record.

    Its ``kind`` keeps a record of one kind from passing for one of another.
    """
    return ALGORITHM, record, key.sign(_message(record))


def check_record(file: Any, public: str, whose: str, **expected: object) -> None:
    """Check the signature and the expected fields of the record in a file.

    Raises ``BadInputError`` without a path.
    """
    if file.algorithm != ALGORITHM:
        raise BadInputError(f"is signed by {file.algorithm}, expected {ALGORITHM}")
    for name, value in expected.items():
        if (found := getattr(file.signed, name)) != value:
            raise BadInputError(f"has {name} {found}, expected {value}")
    if not verifies(public, _message(file.signed), file.signature):
        raise BadInputError(f"is not signed by the key of {whose}")


def _message(record: Any) -> bytes:
    return DOMAIN + canonical_json(encode(record))
