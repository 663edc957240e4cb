"""The key rule."""

import pytest

from bench.sim.credential import KeyRule

ANY = KeyRule(None)
LISTED = KeyRule(["sk-good"])


def test_both_headers_carry_a_key() -> None:
    found = ANY.judge({b"x-api-key": b"sk-a"}, b"/v1/messages")
    assert (found.value, found.header, found.refused) == ("sk-a", "x-api-key", None)
    found = ANY.judge({b"authorization": b"Bearer sk-b"}, b"/v1/messages")
    assert (found.value, found.header, found.refused) == ("sk-b", "authorization", None)


@pytest.mark.parametrize("headers", [{}, {b"x-api-key": b""}, {b"authorization": b"Bearer "}])
def test_no_key_is_refused(headers: dict[bytes, bytes]) -> None:
    assert ANY.judge(headers, b"/").refused == "missing_key"


@pytest.mark.parametrize("key", [b"kt_live_abc", b"kt_test_abc", b"kt_other"])
def test_a_karta_key_is_refused(key: bytes) -> None:
    assert ANY.judge({b"x-api-key": key}, b"/").refused == "karta_key"
    assert ANY.judge({b"authorization": b"bearer " + key}, b"/").refused == "karta_key"


def test_a_karta_key_anywhere_is_a_leak() -> None:
    found = ANY.judge({b"x-api-key": b"sk-a", b"cookie": b"k=kt_live_1"}, b"/v1/x?key=kt_test_2")
    assert found.refused == "karta_key"
    assert found.leaks == ("cookie", ":target")
    both = ANY.judge({b"x-api-key": b"sk-a", b"authorization": b"Bearer kt_live_1"}, b"/")
    assert (both.refused, both.leaks) == ("karta_key", ("authorization",))


def test_with_a_list_only_those_are_taken() -> None:
    assert LISTED.judge({b"x-api-key": b"sk-good"}, b"/").refused is None
    assert LISTED.judge({b"x-api-key": b"sk-bad"}, b"/").refused == "unknown_key"
