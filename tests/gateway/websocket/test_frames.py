"""Frames of real senders, however they arrive, and what is none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from gateway.sse import EVENT_BYTES_MAX
from gateway.websocket.frames import (
    PROTOCOL_ERROR,
    TOO_BIG,
    FrameError,
    FrameReader,
    close_frame,
    text_frame,
)

BYTES_MAX = 1_000_000
sides = st.sampled_from((ConnectionType.CLIENT, ConnectionType.SERVER))
messages = st.lists(
    st.tuples(
        st.one_of(st.binary(max_size=300), st.sampled_from((125, 126, 65_535, 65_536)).map(bytes)),
        # Where a message is cut into frames, and whether a ping comes between them.
        st.lists(st.integers(1, 299), max_size=3),
        st.booleans(),
    ),
    max_size=5,
)


def reader(*, masked: bool = False, keep_ends: bool = False, bytes_max: int = BYTES_MAX) -> FrameReader:
    return FrameReader(masked=masked, message_bytes_max=bytes_max, keep_ends=keep_ends)


def written(side: ConnectionType, told: list[tuple[bytes, list[int], bool]]) -> tuple[bytes, list[bytes]]:
    """The bytes a real sender makes of messages, and the messages."""
    frames = Connection(side)
    data, whole = b"", []
    for message, cuts, pings in told:
        at = 0
        for cut in sorted({one for one in cuts if one < len(message)}):
            data += frames.send(BytesMessage(message[at:cut], message_finished=False))
            data += frames.send(Ping(b"p")) if pings else b""
            at = cut
        data += frames.send(BytesMessage(message[at:]))
        whole.append(message)
    return data, whole


@given(sides, messages, st.booleans(), st.lists(st.integers(0, 500), max_size=10))
def test_every_message_is_found_whatever_the_cuts(
    side: ConnectionType, told: list[tuple[bytes, list[int], bool]], keep_ends: bool, cuts: list[int]
) -> None:
    data, whole = written(side, told)
    found: list[bytes] = []
    one = reader(masked=side is ConnectionType.CLIENT, keep_ends=keep_ends)
    at = 0
    for cut in [*sorted({min(cut, len(data)) for cut in cuts}), len(data)]:
        piece = data[at:cut]
        ends = [(frame.end, frame.message) for frame in one.feed(piece)]
        assert all(0 <= end <= len(piece) for end, _ in ends)
        found += [message.whole() for _, message in ends if message is not None]
        at = cut
    assert found == whole
    assert one.between_messages
    assert not one.closed


@given(st.booleans(), st.lists(st.binary(max_size=60), max_size=6))
def test_whatever_comes_is_bounded_and_told_as_one_error(masked: bool, pieces: list[bytes]) -> None:
    one = reader(masked=masked, bytes_max=50)
    codes: set[int] = set()
    try:
        for piece in pieces:
            for frame in one.feed(piece):
                assert frame.message is None or len(frame.message.whole()) <= 50
    except FrameError as error:
        codes.add(error.code)
    assert codes <= {PROTOCOL_ERROR, TOO_BIG}


def test_where_a_frame_or_a_message_is_under_way_is_known() -> None:
    one = reader()
    states = []
    for byte in b"\x01\x02ab" + b"\x80\x01c":
        list(one.feed(bytes((byte,))))
        states.append((one.between_frames, one.between_messages))
    assert states == [(False, False)] * 3 + [(True, False)] + [(False, False)] * 2 + [(True, True)]


def test_a_close_frame_is_the_last() -> None:
    one = reader()
    assert [frame.end for frame in one.feed(close_frame(1000, "bye"))] == [7]
    assert one.closed
    with pytest.raises(FrameError):
        list(one.feed(b"\x81\x00"))


@pytest.mark.parametrize(
    ("masked", "data"),
    [
        (False, b"\xc1\x00"),
        (False, b"\xa1\x00"),
        (False, b"\x91\x00"),
        (False, b"\x81\x80"),
        (True, b"\x81\x00"),
        (False, b"\x83\x00"),
        (False, b"\x8b\x00"),
        (False, b"\x09\x00"),
        (False, b"\x89\x7e\x00\x7e"),
        (False, b"\x80\x00"),
        (False, b"\x01\x00\x81\x00"),
    ],
)
def test_what_is_no_frame_is_an_error(masked: bool, data: bytes) -> None:
    with pytest.raises(FrameError) as found:
        list(reader(masked=masked).feed(data))
    assert found.value.code == PROTOCOL_ERROR


def test_a_message_that_is_too_large_is_known_by_its_head() -> None:
    for data in (b"\x82\x7f" + struct.pack("!Q", 2**63 - 1), b"\x02\x7e\x03\xe8" + bytes(1000) + b"\x80\x01"):
        with pytest.raises(FrameError) as found:
            list(reader(bytes_max=1000).feed(data))
        assert found.value.code == TOO_BIG


def test_of_a_message_that_is_too_large_to_keep_the_ends_are() -> None:
    size = 3 * EVENT_BYTES_MAX
    data = b"\x81\x7f" + size.to_bytes(8, "big") + b"begin" + bytes(size - 8) + b"end"
    one = reader(keep_ends=True, bytes_max=1000)
    (frame,) = [frame for at in range(0, len(data), 65_536) for frame in one.feed(data[at : at + 65_536])]
    assert frame.message is not None
    assert frame.message.whole().startswith(b"begin")
    assert frame.message.ends is not None
    assert frame.message.ends.tail().endswith(b"end")


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65_535, 65_536])
def test_our_own_frames_are_read_by_others(size: int) -> None:
    frames = Connection(ConnectionType.CLIENT)
    frames.receive_data(text_frame(b"x" * size))
    text = "".join(event.data for event in frames.events() if isinstance(event, TextMessage))
    assert text == "x" * size
    frames.receive_data(close_frame(1008, "é" * 100))
    (closed,) = frames.events()
    assert isinstance(closed, CloseConnection)
    assert (closed.code, closed.reason) == (1008, "é" * 61)
    server = Connection(ConnectionType.SERVER)
    server.receive_data(close_frame(1001, "", masked=True))
    (closed,) = server.events()
    assert isinstance(closed, CloseConnection)
