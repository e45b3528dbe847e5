"""The primitives are those of the RFCs: X25519, HKDF, ChaCha20 and ChaCha20-Poly1305."""

import base64

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from support.masking import masking_key

from fedcli.errors import BadInputError
from fedcli.masking.masks import Mask, add_masks, key_stream
from fedcli.masking.secrets import Secret
from fedcli.security.secret_streams import hkdf

LADIES = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future,"
    b" sunscreen would be it."
)


def public(raw: bytes) -> str:
    return "x25519:" + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [  # RFC 7748: section 5.2, both vectors; section 6.1, Bob with Alice
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
        (
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
    ],
)
def test_x25519(scalar, point, product):
    key = masking_key(bytes.fromhex(scalar))
    assert key.agree(public(bytes.fromhex(point)), "other").value.hex() == product


def test_x25519_a_thousand_times():
    """RFC 7748, section 5.2: the result becomes the scalar, and the scalar the point."""
    scalar = point = (9).to_bytes(32, "little")
    for _ in range(1000):
        scalar, point = masking_key(scalar).agree(public(point), "other").value, scalar
    assert scalar.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


@pytest.mark.parametrize("point", [0, 1, 2**255 - 19, 2**255 - 18, 2**255 - 20])
def test_a_point_of_small_order_is_refused(point):
    """RFC 7748, section 6.1: with such a point the secret would be 0 for every key."""
    with pytest.raises(BadInputError, match="client eve is a point of small order") as caught:
        masking_key(bytes(range(32))).agree(public(point.to_bytes(32, "little")), "eve")
    assert caught.value.client == "eve"


@pytest.mark.parametrize(
    ("key", "salt", "info", "output"),
    [  # RFC 5869, appendix A.1 to A.3
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41"
            "c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            b"\x0b" * 22,
            None,
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf(key, salt, info, output):
    assert hkdf(key, info, len(output) // 2, salt).hex() == output


BLOCKS = [  # RFC 8439, appendix A.1, vectors 1 to 4, which have nonce 0: key, block, key stream
    (
        bytes(32),
        0,
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        bytes(32),
        1,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        bytes(31) + b"\x01",
        1,
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
        "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    ),
    (
        b"\x00\xff" + bytes(30),
        2,
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
]


@pytest.mark.parametrize(("key", "block", "stream"), BLOCKS)
def test_the_key_stream_is_chacha20(key, block, stream):
    found = np.empty(16, "<u4")
    key_stream(Secret(key), 16 * block, found)
    assert found.tobytes().hex() == stream


@pytest.mark.parametrize(("key", "block", "stream"), BLOCKS)
def test_a_mask_is_the_key_stream_wherever_it_is_cut(key, block, stream):
    for values in (16 * block + 16, 16 * block + 5000, (1 << 16) + 16 * block + 16):
        masked = np.zeros(values, "<u4")
        add_masks(masked, [Mask(Secret(key))], threads=2)
        assert masked[16 * block : 16 * block + 16].tobytes().hex() == stream


def test_the_seal_is_chacha20_poly1305():
    """RFC 8439, section 2.8.2."""
    cipher = ChaCha20Poly1305(bytes(range(0x80, 0xA0)))
    nonce, data = bytes.fromhex("070000004041424344454647"), "50515253c0c1c2c3c4c5c6c7"
    sealed = cipher.encrypt(nonce, LADIES, bytes.fromhex(data)).hex()
    assert sealed.startswith("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6")
    assert sealed.endswith("1ae10b594f09e26a7e902ecbd0600691")
