"""Shares: t of them give the secret, fewer nothing; each is for one member, as it was made."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.masking import WHERE, Members, masking_key

from fedcli.errors import BadInputError
from fedcli.masking.cohort import MaskedRound
from fedcli.masking.pairwise import Agreement
from fedcli.masking.secrets import Secret
from fedcli.masking.shamir import PRIME, decode_share, encode_share, join, split
from fedcli.masking.shares import unseal
from fedcli.masking.unmasking import Answer, masks_to_remove

FOUR = ["1", "2", "a", "b"]
SECRET, SOURCE = Secret(bytes(range(200, 232))), Secret(bytes(32))


@pytest.fixture(scope="module")
def four() -> Members:
    members = Members(FOUR)
    members.deliver({name: np.arange(5, dtype=np.int32) for name in FOUR})
    return members


# Shamir


@pytest.mark.parametrize("threshold", [1, 2, 3, 5])
def test_any_t_shares_give_the_secret(threshold):
    shares = dict(
        zip(range(1, 6), split(SECRET, threshold, range(1, 6), SOURCE, b"x"), strict=True)
    )
    for size in range(threshold, 6):
        for points in itertools.combinations(shares, size):
            assert join({x: shares[x] for x in points}, threshold) == SECRET


def test_fewer_than_t_shares_fit_every_secret():
    """For any other secret there is a polynomial through the same t − 1 shares."""
    shares = split(SECRET, 3, [1, 2], SOURCE, b"x")
    for other in (0, 1, 2**256 - 1):
        # the line through (1, s1), (2, s2) and a third value chosen so that f(0) is the other
        third = (other - 3 * shares[0] + 3 * shares[1]) % PRIME
        found = join({1: shares[0], 2: shares[1], 3: third}, 3)
        assert int.from_bytes(found.value, "big") == other
    with pytest.raises(ValueError, match="2 shares, expected 3"):
        join({1: shares[0], 2: shares[1]}, 3)


def test_shares_look_uniform_modulo_the_prime():
    """Their highest and lowest bits are balanced, for one secret and many labels."""
    many = [split(SECRET, 2, [1], SOURCE, b"%d" % n)[0] for n in range(2000)]
    for bit in (0, 1, 256, 519, 520):
        assert abs(sum(share >> bit & 1 for share in many) - 1000) < 6 * np.sqrt(500)


def test_coefficients_are_secret_and_of_one_label():
    shares = split(SECRET, 3, [1, 2, 3], SOURCE, b"x")
    assert split(SECRET, 3, [1, 2, 3], SOURCE, b"x") == shares
    assert split(SECRET, 3, [1, 2, 3], SOURCE, b"y")[0] != shares[0]
    assert split(SECRET, 3, [1, 2, 3], Secret(bytes(31) + b"1"), b"x")[0] != shares[0]


def test_a_share_has_66_bytes_below_the_prime():
    for share in (0, 1, PRIME - 1):
        assert decode_share(encode_share(share)) == share
    for bad in (b"", bytes(65), bytes(67), PRIME.to_bytes(66, "big"), b"\xff" * 66):
        with pytest.raises(ValueError, match="expected a share of 66 bytes"):
            decode_share(bad)


def test_shares_of_no_secret_are_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        join({1: 0, 2: PRIME // 2, 3: 12345}, 3)


# sealed for one member


def test_each_member_opens_its_own(four):
    for owner, member in itertools.product(FOUR, FOUR):
        sealed = four.sealed[owner].sealed[member]
        found = unseal(four.agreements[member], owner, four.sha256(owner), sealed)
        assert list(found.by_member) == FOUR


@pytest.mark.parametrize("thief", ["1", "2", "b"])
def test_the_share_for_a_is_unreadable_by_others(four, thief):
    """Neither with the thief's own key, nor with any other name that it gives itself."""
    sealed = four.sealed["1"].sealed["a"]
    agreement = four.agreements[thief]
    for name in FOUR:
        pretending = replace(agreement, member=name)
        with pytest.raises(BadInputError, match="cannot be opened"):
            unseal(pretending, "1" if thief != "1" else "2", four.sha256("1"), sealed)


def test_a_share_moved_to_another_place_is_refused(four):
    opener, sealed, sha256 = four.agreements["a"], four.sealed["1"].sealed["a"], four.sha256("1")
    assert unseal(opener, "1", sha256, sealed)
    elsewhere = [
        (opener, "2", sha256),
        (opener, "1", four.sha256("2")),
        (_in(MaskedRound(WHERE.run, 2, 1)), "1", sha256),
        (_in(MaskedRound(WHERE.run, 1, 2)), "1", sha256),
        (_in(MaskedRound("f" * 64, 1, 1)), "1", sha256),
    ]
    for agreement, owner, digest in elsewhere:
        with pytest.raises(BadInputError, match=f"shares of client {owner} for client a cannot"):
            unseal(agreement, owner, digest, sealed)


def _in(where: MaskedRound) -> Agreement:
    return Members(FOUR, where).agreements["a"]


def test_a_flipped_bit_anywhere_is_refused(four):
    sealed = four.sealed["1"].sealed["a"]
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1 << (at % 8)
        with pytest.raises(BadInputError, match="they were changed"):
            unseal(four.agreements["a"], "1", four.sha256("1"), bytes(changed))
    for other in (b"", sealed[:-1], sealed + b"\0"):
        with pytest.raises(BadInputError, match="they were changed"):
            unseal(four.agreements["a"], "1", four.sha256("1"), other)


def test_no_two_seals_have_the_same_key(four):
    """The same zeros sealed from a to b, from b to a, and with another update, all differ."""
    ciphers = [
        (a, b, agreement.with_others[b].derive("share", agreement.cohort.where.label(x, y, digest)))
        for a, agreement in four.agreements.items()
        for b in FOUR
        for x, y in {(a, b), (b, a)}
        for digest in ("0", "1")
    ]
    keys = {secret.value for _, _, secret in ciphers}
    assert len(keys) == 2 * (len(FOUR) + 2 * 6)  # itself, and two directions of each pair


# what is asked and what is answered


def test_nobody_gives_both_kinds_for_one_member(four):
    survivors = FOUR[:3]
    given = four.answer("a", survivors)
    assert set(given.own) == set(survivors)
    missing = {j for pairs in given.pairs.values() for j in pairs}
    assert missing == {"b"}
    assert not missing & set(given.own)


def test_a_stranger_in_the_list_is_refused(four):
    with pytest.raises(BadInputError, match="names 'eve', who is not a member"):
        masks_to_remove(four.cohort, {name: {} for name in (*FOUR, "eve")}, [])


def wrong(answer: Answer, survivor: str) -> Answer:
    return replace(answer, own={**answer.own, survivor: answer.own[survivor] ^ 1})


def test_a_wrong_share_is_named_and_no_wrong_sum_comes_out(four):
    committed = {i: four.sealed[i].commitments for i in FOUR}
    answers = [four.answer(name, FOUR) for name in FOUR[:3]]
    answers[1] = wrong(answers[1], "b")
    with pytest.raises(BadInputError, match=r"client b .* one of 1, 2, a, gave a wrong one"):
        masks_to_remove(four.cohort, committed, answers)


def test_a_wrong_commitment_is_named(four):
    committed = {i: dict(four.sealed[i].commitments) for i in FOUR[:3]}
    committed["1"]["b"] = "0" * 64
    answers = [four.answer(name, FOUR[:3]) for name in FOUR[:3]]
    with pytest.raises(BadInputError, match="mask of client 1 do not give the seed"):
        masks_to_remove(four.cohort, committed, answers)


def test_secrets_do_not_show_themselves(four):
    key = masking_key(bytes(range(32)))
    texts = [repr(one) for one in (SECRET, key, four.agreements["a"], four.masked["a"])]
    texts += [str(SECRET), f"{four.answer('a', FOUR)}"]
    hidden = [SECRET.value, bytes(range(32)), four.agreements["a"].own.value]
    hidden += [one.value for one in four.masked["a"].seeds.pairs.values()]
    for text, secret in itertools.product(texts, hidden):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
    assert "own=" not in repr(four.answer("a", FOUR))
