"""Few digests: each costs a quarter of a second."""

from __future__ import annotations

import pytest

from storage.errors import InvalidValue
from storage.passwords import PASSWORD_CHARS_MAX, REFERENCE_DIGEST, _prehash, digest_password, verify_password


def test_a_long_password_counts_to_its_last_character() -> None:
    password = "korrekt-hest-batteri " * 20
    digest = digest_password(password)
    assert digest.startswith(b"$2b$12$")
    assert len(digest) == 60
    assert verify_password(password, digest)
    assert not verify_password(password + "x", digest)


def test_what_goes_into_bcrypt_is_whole_and_without_nul() -> None:
    seen = {
        _prehash(password) for password in ("", "a", "a\0", "a\0b", "x" * 71, "x" * 72, "x" * 73, "\ud800")
    }
    assert len(seen) == 8
    assert {len(prehash) for prehash in seen} == {64}


def test_the_same_characters_typed_differently_are_the_same_password() -> None:
    assert _prehash("caf\u00e9") == _prehash("cafe\u0301")
    assert _prehash("ﬁsh") == _prehash("fish")


@pytest.mark.parametrize("password", ["", "x" * (PASSWORD_CHARS_MAX + 1)])
def test_lengths_out_of_bounds(password: str) -> None:
    with pytest.raises(InvalidValue):
        digest_password(password)
    assert not verify_password(password, REFERENCE_DIGEST)


def test_the_reference_digest_costs_what_a_real_one_costs() -> None:
    assert REFERENCE_DIGEST[:7] == b"$2b$12$"
    assert not verify_password("", REFERENCE_DIGEST)


def test_a_malformed_digest_matches_nothing() -> None:
    assert not verify_password("x", b"")
    assert not verify_password("x", b"x" * 1000)
