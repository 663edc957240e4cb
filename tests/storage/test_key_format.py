"""The key's shape by properties; the digest by its promises (cost 12 each, so few)."""

from __future__ import annotations

import re

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import key_format
from storage.key_format import COST_MIN, TOKEN_BYTES_MAX, digest, mint, parse, verify
from storage.model import Mode

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"


@given(st.sampled_from(Mode))
def test_a_minted_key_reads_back(mode: Mode) -> None:
    minted = mint(mode)
    assert re.fullmatch(rf"kt_{mode.value}_[0-9A-Za-z]{{12}}_[0-9A-Za-z]{{34}}", minted.token)
    assert len(minted.token) == 55 <= TOKEN_BYTES_MAX
    parsed = parse(minted.token.encode())
    assert parsed is not None
    assert (parsed.mode, parsed.key_id, parsed.secret) == (mode, minted.key_id, minted.secret)
    assert minted.last_four == minted.token[51:]


def test_a_management_key_has_the_shape_and_is_no_customers_key() -> None:
    minted = key_format.mint_management()
    assert re.fullmatch(r"kt_mgmt_[0-9A-Za-z]{12}_[0-9A-Za-z]{34}", minted.token)
    parsed = key_format.parse_management(minted.token.encode())
    assert parsed is not None
    assert (parsed.key_id, parsed.secret) == (minted.key_id, minted.secret)
    assert minted.secret.decode() not in repr((minted, parsed))
    assert parse(minted.token.encode()) is None
    for kind in Mode:
        assert key_format.parse_management(mint(kind).token.encode()) is None
    for wrong in (minted.token[:-1], minted.token + "0", minted.token.swapcase(), "x" * 10_000):
        assert key_format.parse_management(wrong.encode()) is None


def test_keys_do_not_repeat() -> None:
    keys = [mint(Mode.LIVE) for _ in range(1000)]
    assert len({key.key_id for key in keys}) == len({key.secret for key in keys}) == 1000


@given(st.data())
def test_any_change_of_one_character_is_caught(data: st.DataObject) -> None:
    token = mint(Mode.LIVE).token
    position = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from([c for c in ALPHABET if c != token[position]]))
    assert parse((token[:position] + character + token[position + 1 :]).encode()) is None


@given(st.data())
def test_any_swap_of_neighbours_is_caught(data: st.DataObject) -> None:
    token = mint(Mode.TEST).token
    at = data.draw(st.integers(0, len(token) - 2))
    swapped = token[:at] + token[at + 1] + token[at] + token[at + 2 :]
    assert swapped == token or parse(swapped.encode()) is None


@given(st.binary(max_size=200))
def test_garbage_is_no_key_and_no_exception(garbage: bytes) -> None:
    assert parse(garbage) is None
    assert parse(b"kt_live_" + garbage) is None
    assert not verify(garbage, garbage)


@pytest.mark.parametrize("extra", [b"\n", b" ", b"\0", b"a", b"\r\n"])
def test_nothing_may_stand_around_a_key(extra: bytes) -> None:
    token = mint(Mode.LIVE).token.encode()
    assert parse(token + extra) is None
    assert parse(extra + token) is None


def test_representations_hide_the_secret() -> None:
    minted = mint(Mode.LIVE)
    parsed = parse(minted.token.encode())
    for text in (repr(minted), str(minted), f"{minted}", repr(parsed)):
        assert minted.secret.decode() not in text
        assert minted.last_four not in text or minted.last_four in minted.key_id


def test_a_digest_verifies_its_secret_only() -> None:
    secret = mint(Mode.LIVE).secret
    stored = digest(secret)
    assert stored.startswith(b"$2b$12$")
    assert verify(secret, stored)
    assert not verify(secret[:-1] + bytes([secret[-1] ^ 1]), stored)
    assert not verify(secret + b"\0", stored)


@pytest.mark.parametrize("cost", [COST_MIN - 1, 4, 0, -1, 17, 31])
def test_a_lower_or_absurd_cost_cannot_be_minted(cost: int) -> None:
    with pytest.raises(ValueError, match="cost must be"):
        digest(b"secret", cost)


def test_the_shortest_secret() -> None:
    assert verify(b"s", digest(b"s"))


@pytest.mark.parametrize("secret", [b"", b"a" * 73, b"a" * 1_000_000, b"a\0b"])
def test_secrets_bcrypt_cannot_take_whole(secret: bytes) -> None:
    with pytest.raises(ValueError, match="without NUL"):
        digest(secret)
    assert not verify(secret, b"$2b$12$" + b"a" * 53)


def test_a_digest_of_low_cost_is_not_believed() -> None:
    """As if somebody had written a cheap digest into the database by hand."""
    assert not verify(b"secret", bcrypt.hashpw(b"secret", bcrypt.gensalt(4)))


def test_a_digest_of_enormous_cost_is_not_run() -> None:
    assert not verify(b"secret", b"$2b$31$" + b"a" * 53)


def test_a_digest_bcrypt_rejects_is_false() -> None:
    assert not verify(b"secret", b"$2b$12$" + b"9" * 53)


def test_the_dearest_digest_that_may_be_minted_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here that is the cheapest one: a digest of the real one takes seconds."""
    monkeypatch.setattr(key_format, "COST_MAX", COST_MIN)
    assert verify(b"s" * 72, digest(b"s" * 72, COST_MIN))


def test_the_checksum_is_the_crc32_of_all_before_it() -> None:
    assert key_format._checksum(b"kt_live_") == "30rDnq"
    # 0 and 2^32-1, the ends of what six base62 digits must hold: CRC-32 of b"" is 0.
    assert key_format._checksum(b"") == "000000"
    assert key_format._checksum(b"\xff\xff\xff\xff") == "4gfFC3"
