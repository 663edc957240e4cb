"""Which lines of a head are told apart, and that a head of another layout is never taken for a known one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import head_layout
from gateway.head_layout import EMPTY, LAYOUTS_MAX, NAMES_BYTES_MAX, Rule, layout_of

LINES = [b"Date: now", b"content-type:text/plain", b"X-Request-Id: 1", b"SERVER: edge", b"x-other: y"]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    head_layout._layouts.clear()


def test_what_is_special_is_told_from_the_end() -> None:
    assert layout_of(LINES, EMPTY).special == [
        (3, 7, Rule.DROP),
        (2, 13, Rule.REQUEST_ID),
        (1, 13, Rule.CONTENT_TYPE),
    ]


def test_a_head_without_fields_has_the_empty_layout() -> None:
    assert layout_of([], EMPTY) is EMPTY
    assert layout_of([], layout_of(LINES, EMPTY)).special == []


def test_the_same_names_with_other_values_are_the_same_layout() -> None:
    layout = layout_of(LINES, EMPTY)
    others = [line + b" and more: much" for line in LINES]
    assert layout.fits(others)
    assert layout_of(others, layout) is layout
    assert layout_of(others, EMPTY) is layout


@pytest.mark.parametrize(
    "lines",
    [
        LINES[:-1],
        [*LINES, b"one: more"],
        [LINES[1], LINES[0], *LINES[2:]],
        [b"dat: e", *LINES[1:]],
        [b"Date-: now", *LINES[1:]],
        [b"date: now", *LINES[1:]],
    ],
    ids=["shorter", "longer", "exchanged", "cut", "lengthened", "spelt"],
)
def test_other_names_are_another_layout(lines: list[bytes]) -> None:
    layout = layout_of(LINES, EMPTY)
    assert not layout.fits(lines)
    assert layout_of(lines, layout) is not layout


NAMES = st.lists(
    st.sampled_from([b"a", b"A", b"ab", b"Server", b"server", b"connection", b"location"]), max_size=4
)


@given(NAMES, NAMES)
def test_a_known_layout_fits_only_its_own_names(names: list[bytes], others: list[bytes]) -> None:
    known = layout_of([name + b": x" for name in names], EMPTY)
    found = layout_of([name + b":y" for name in others], known)
    assert (found is known) == (names == others)
    assert [index for index, _, _ in found.special] == [
        index for index in reversed(range(len(others))) if others[index].lower() not in (b"a", b"ab")
    ]


def test_memory_is_bounded_whatever_names_a_provider_sends() -> None:
    for number in range(LAYOUTS_MAX + 10):
        layout_of([b"x-%d: y" % number], EMPTY)
    assert len(head_layout._layouts) == LAYOUTS_MAX
    longest = [b"x" * (NAMES_BYTES_MAX - 6) + b": y", b"server: z"]
    assert layout_of(longest, EMPTY) is layout_of(longest, EMPTY), "kept"
    long = [b"x" * NAMES_BYTES_MAX + b": y", b"server: z"]
    assert [rule for _, _, rule in layout_of(long, EMPTY).special] == [Rule.DROP]
    assert len(head_layout._layouts) == LAYOUTS_MAX
    assert all(len(b"".join(names)) <= NAMES_BYTES_MAX for names in head_layout._layouts)
