"""Where events end, whatever the line ends and wherever the reads end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.sse import (
    CARRY_BYTES_MAX,
    EVENT_BYTES_MAX,
    HEAD_BYTES_KEPT,
    TAIL_BYTES_KEPT,
    Splitter,
    Window,
    event_data,
)
from tests.gateway.pieces import cut


def datas(*pieces: bytes) -> list[bytes]:
    """The data of each event that has any, in order; an oversized one as its length of tail."""
    splitter = Splitter()
    found = []
    for piece in pieces:
        block = splitter.feed(piece)
        found += [b"oversized" for _ in splitter.oversized] + _datas_of(block)
        splitter.oversized.clear()
    block = splitter.finish()
    return found + [b"oversized" for _ in splitter.oversized] + _datas_of(block)


def _datas_of(block: bytes) -> list[bytes]:
    return [data for event in block.split(b"\n\n") if (data := event_data(event))]


STREAM = (
    b'event: message_start\ndata: {"a": 1}\n\n'
    b": a comment\n\n"
    b"event: ping\ndata:\n\n"
    b"data: first\ndata:second\ndata:  third\nid: 7\nretry: 3000\n\n"
    b"event: no-data\n\n"
    b"\n\n"
    b'data: {"t": "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"}              \n\n'
    b"data: [DONE]\n\n"
    b"data: without its blank line"
)
DATAS = [
    b'{"a": 1}',
    b"first\nsecond\n third",
    b'{"t": "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"}              ',
    b"[DONE]",
    b"without its blank line",
]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
def test_every_cut_in_two_and_in_three_gives_the_same_events(line_end: bytes, mark: bytes) -> None:
    stream = mark + STREAM.replace(b"\n", line_end)
    assert datas(stream) == DATAS
    for at in range(1, len(stream)):
        assert datas(stream[:at], stream[at:]) == DATAS, at
        assert datas(stream[:at], stream[at : at + 1], stream[at + 1 :]) == DATAS, at
    assert datas(*cut(stream, 1)) == DATAS


def test_line_ends_may_be_mixed() -> None:
    stream = b"data: a\r\n\rdata: b\r\rdata: c\n\r\ndata: d\n\ndata: e\r\ndata: f\rdata: g\ndata: h\r\n\n"
    for size in range(1, len(stream) + 1):
        assert datas(*cut(stream, size)) == [b"a", b"b", b"c", b"d", b"e\nf\ng\nh"], size


@pytest.mark.parametrize(("event_end", "at"), [(b"\n\n", 2), (b"\r\n\r\n", 3), (b"\r\r", 2)])
def test_an_event_is_given_as_soon_as_it_is_known_to_end(event_end: bytes, at: int) -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: x" + event_end[: at - 1]) == b""
    assert not splitter.between_events
    assert splitter.feed(event_end[at - 1 : at]) == b"data: x\n\n"
    assert splitter.between_events
    assert splitter.feed(event_end[at:]) == b""
    assert splitter.between_events


def test_an_event_in_one_read_is_not_copied() -> None:
    splitter = Splitter()
    splitter.feed(b"data: 0\n\n")
    piece = b'data: {"x": 1}\n\n'
    assert splitter.feed(piece) is piece


def test_a_blank_line_before_all_else_is_given_at_once() -> None:
    splitter = Splitter()
    assert splitter.feed(b"\n\n") == b"\n\n"
    assert splitter.feed(b"data: x\n\n") == b"data: x\n\n"


def test_a_line_feed_before_the_first_carriage_return_counts() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: a\n") == b""
    assert splitter.feed(b"\ndata: b\r\n") == b"data: a\n\n"
    assert splitter.feed(b"\r\n") == b"data: b\n\n"


lines = st.one_of(
    st.binary(max_size=30).map(
        lambda raw: b"data:" + raw.translate(bytes(b if b not in (10, 13) else 46 for b in range(256)))
    ),
    st.sampled_from(
        [b"", b"", b": comment", b"event: x", b"data", b"data: \xf0\x9f\x98\x80", b"id", b"data: [DONE]"]
    ),
)


@given(
    st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=20),
    st.lists(st.integers(0, 600), max_size=6),
)
@example([(b"\xef\xbb\xbfdata: x", b"\r"), (b"", b"\n"), (b"data: y", b"\r\n"), (b"", b"\r")], [1, 2, 3])
@settings(max_examples=3 * settings().max_examples, deadline=None)
def test_any_stream_cut_anywhere(parts: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(line + end for line, end in parts)
    edges = [0, *sorted(at for at in cuts if at < len(stream)), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    expected = datas(stream)
    assert datas(*pieces) == expected
    assert datas(*cut(stream, 1)) == expected
    # As the standard reads it: lines first, whatever their ends; then events, parted by empty lines.
    normal = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert expected == _datas_of(normal)


def test_between_events() -> None:
    splitter = Splitter()
    assert splitter.between_events
    for piece, between in [
        (b"data: x", False),
        (b"\n", False),
        (b"\n", True),
        (b"\n", True),
        (b": ping\n\n", True),
        (b"data: " + b"x" * 2 * CARRY_BYTES_MAX, False),
        (b"x" * EVENT_BYTES_MAX, False),
        (b"\n", False),
        (b"\n", True),
    ]:
        splitter.feed(piece)
        assert splitter.between_events is between, piece[:20]


# Long events.


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("length", [CARRY_BYTES_MAX - 6, CARRY_BYTES_MAX - 5, 200_000, EVENT_BYTES_MAX - 100])
def test_a_long_event_is_given_whole(length: int, line_end: bytes) -> None:
    long = b"x" * length
    stream = (b"data: a\n\ndata: " + long + b"\ndata: z\n\ndata: b\n\n").replace(b"\n", line_end)
    expected = [b"a", long + b"\nz", b"b"]
    near_the_end = [stream[:-at] for at in range(1, 24)]
    for pieces in [
        [stream],
        cut(stream, 65_536),
        cut(stream, 1021),
        *([*cut(start, 65_536), stream[len(start) :]] for start in near_the_end),
    ]:
        assert datas(*pieces) == expected


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_an_oversized_event_keeps_its_ends_and_the_next_ones_are_told_apart(line_end: bytes) -> None:
    text = b"data: " + b"x" * (2 * EVENT_BYTES_MAX)
    event = b"event: big\n" + text + b"\n" + text + b'\ndata: "the end"\n\n'
    after = b"data: after\n\ndata: later\n\n"
    stream = (event + after).replace(b"\n", line_end)
    tail = (b'\ndata: "the end"\n\n' + after).replace(b"\n", line_end)
    for at in range(len(tail) + 1):
        splitter = Splitter()
        blocks = [splitter.feed(piece) for piece in cut(stream[: len(stream) - at], 65_536)]
        blocks.append(splitter.feed(stream[len(stream) - at :]))
        (window,) = splitter.oversized
        assert window.overflowed
        assert len(window.head) == HEAD_BYTES_KEPT
        assert window.head.startswith(b"event: big\ndata: xxx")
        assert len(window.tail()) == TAIL_BYTES_KEPT
        assert window.tail().endswith(b'x\ndata: "the end"\n\n')
        assert b"".join(blocks) == after
        assert splitter.between_events


@pytest.mark.parametrize("length", [2 * CARRY_BYTES_MAX, 2 * EVENT_BYTES_MAX])
def test_a_long_event_ends_where_a_read_was_half_a_line_end(length: int) -> None:
    splitter = Splitter()
    pieces = [*cut(b"data: " + b"x" * length + b"\r", 65_536), b"\n", b"\r", b"\n", b"data: after\r\n\r\n"]
    blocks = [splitter.feed(piece) for piece in pieces]
    assert blocks[-1] == b"data: after\n\n"
    assert len(b"".join(blocks[:-1])) == (length + len("data: \n\n") if length < EVENT_BYTES_MAX else 0)
    assert len(splitter.oversized) == (length > EVENT_BYTES_MAX)


def test_an_oversized_event_that_never_ends_is_told_at_the_end() -> None:
    splitter = Splitter()
    for piece in [b"data: ", *[b"x" * 65_536] * 40, b'"usage"']:
        assert splitter.feed(piece) == b""
    assert splitter.oversized == []
    assert splitter.finish() == b""
    (window,) = splitter.oversized
    assert window.tail().endswith(b'x"usage"')
    assert splitter.between_events


@pytest.mark.parametrize("reads", [1_000, 65_536, 300_000, 2 * EVENT_BYTES_MAX])
def test_the_ends_that_are_kept_are_the_ends(reads: int) -> None:
    """Told by their bytes: no four of them in a row are the same as any others."""
    whole = b"".join(number.to_bytes(4, "big") for number in range(EVENT_BYTES_MAX // 2))
    window = Window()
    for piece in cut(whole, reads):
        window.add(piece)
    assert window.overflowed
    assert window.head == whole[:HEAD_BYTES_KEPT]
    assert window.tail() == whole[-TAIL_BYTES_KEPT:]


def test_the_largest_that_is_kept_whole() -> None:
    window = Window()
    largest = b"x" * EVENT_BYTES_MAX
    window.add(largest)
    assert not window.overflowed
    assert window.whole() is largest
    window.add(b"y")
    assert window.overflowed
    assert window.tail() == b"x" * (TAIL_BYTES_KEPT - 1) + b"y"


def test_memory_of_an_endless_line_is_bounded() -> None:
    window = Window()
    for _ in range(1000):
        window.add(b"x" * 65_536)
        assert window._size <= EVENT_BYTES_MAX + 65_536
        assert len(window._tail) <= 2 * TAIL_BYTES_KEPT + 65_536
    assert window._pieces == []


def test_a_long_event_in_small_reads_is_copied_once_not_with_each_of_them() -> None:
    splitter = Splitter()
    for _ in range(8192):
        splitter.feed(b"x" * 64)
        assert len(splitter._carry) <= CARRY_BYTES_MAX


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x", b"x"),
        (b"data:x", b"x"),
        (b"data:  x", b" x"),
        (b"data:", b""),
        (b"data: \ndata: ", b"\n"),
        (b"data: a\nevent: e\ndata: b", b"a\nb"),
        (b"event: e", b""),
        (b": data: x", b""),
        (b"datas: x", b""),
        (b"", b""),
    ],
)
def test_the_data_of_an_event(event: bytes, data: bytes) -> None:
    assert event_data(event) == data
