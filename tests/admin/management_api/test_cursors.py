"""A cursor leads on in its own listing, and whatever else is sent is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.management_api.cursors import cut, read, spell
from admin.management_api.forms import CURSOR_CHARS_MAX
from admin.management_api.problems import Problem


@given(st.text(max_size=200))
def test_a_place_reads_back(place: str) -> None:
    cursor = spell("keys", place)
    assert read("keys", cursor, str) == place
    assert cursor.isascii()
    with pytest.raises(Problem):
        read("members", cursor, str)
    with pytest.raises(Problem):
        read("keys", cursor, int)


def test_the_longest_name_fits() -> None:
    for character in ("x", "\U0001f600", "\0", '"'):
        assert len(spell("usage by provider", character * 256)) <= CURSOR_CHARS_MAX


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(Problem):
        read("keys", text, tuple[int, int, int])


def test_the_end_has_no_cursor() -> None:
    assert read("keys", None, str) is None
    assert cut([1, 2], 2, "keys", int) == ([1, 2], None)
    page, cursor = cut([1, 2, 3], 2, "keys", int)
    assert page == [1, 2]
    assert read("keys", cursor, int) == 2
    assert cut([], 2, "keys", int) == ([], None)
