"""The PROXY protocol: real headers however they arrive, nothing beyond them, and no guessing."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy_protocol import BYTES_MAX, V1_BYTES_MAX, ProxyHeader, ProxyHeaderError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ports = st.integers(0, 65_535)


def v1(family: str, source: object, destination: object, port: int, other: int) -> bytes:
    return f"PROXY {family} {source} {destination} {port} {other}\r\n".encode()


def v2(command: int, kind: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes((0x20 | command, kind)) + len(rest).to_bytes(2, "big") + rest


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, str | None]:
    """A header as a proxy writes it, and whose address it tells."""
    number = draw(st.sampled_from((4, 6)))
    source, destination = draw(st.ip_addresses(v=number)), draw(st.ip_addresses(v=number))
    port, other = draw(ports), draw(ports)
    if draw(st.booleans()):
        if draw(st.integers(0, 4)) == 0:
            tail = draw(st.text("0123456789abcdef:. ", max_size=60))
            return f"PROXY UNKNOWN {tail}\r\n".encode(), None
        return v1(f"TCP{number}", source, destination, port, other), str(source)
    addresses = source.packed + destination.packed + port.to_bytes(2, "big") + other.to_bytes(2, "big")
    extensions = draw(st.binary(max_size=300))
    command = draw(st.sampled_from((0, 1)))
    kind = {4: 0x11, 6: 0x21}[number]
    return v2(command, kind, addresses + extensions), str(source) if command else None


def feed(data: bytes, cuts: list[int]) -> tuple[ProxyHeader, bytes]:
    """Show it more and more of `data`, as a peek does; what it left of it."""
    header = ProxyHeader()
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        while not header.done and data and end:
            taken = header.feed(data[:end])
            data, end = data[taken:], end - taken
    return header, data


@given(headers(), st.binary(max_size=50), st.lists(st.integers(1, 200), max_size=8))
def test_a_header_is_read_however_it_arrives_and_nothing_behind_it(
    told: tuple[bytes, str | None], behind: bytes, cuts: list[int]
) -> None:
    raw, source = told
    header, left = feed(raw + behind, cuts)
    assert (header.done, header.source, left) == (True, source, behind)


@given(headers(), st.data())
def test_a_header_that_is_cut_short_is_waited_for(
    told: tuple[bytes, str | None], data: st.DataObject
) -> None:
    raw, _ = told
    part = raw[: data.draw(st.integers(0, len(raw) - 1))]
    header, left = feed(part, [])
    assert (header.done, header.source, left) == (False, None, b"")


@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(lambda rest: b"PROXY " + rest, st.binary(max_size=200)),
        st.builds(lambda rest: SIGNATURE + rest, st.binary(max_size=100)),
    )
)
def test_whatever_comes_is_bounded_and_told_as_one_error(raw: bytes) -> None:
    header = ProxyHeader()
    try:
        taken = header.feed(raw)
    except ProxyHeaderError:
        assert not header.done
        return
    assert 0 <= taken <= len(raw)
    assert header.done or taken == len(raw)
    if header.source is not None:
        ipaddress.ip_address(header.source)


ADDRESSES = bytes(range(12))


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"PROXZ",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n3\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 " + b"1" * V1_BYTES_MAX,
        b"PROXY UNKNOWN " + b"x" * V1_BYTES_MAX + b"\r\n",
        # A version, a command, a family and a transport that there are not; addresses cut short; too long.
        SIGNATURE + b"\x11\x11\0\x0c" + ADDRESSES,
        v2(2, 0x11, ADDRESSES),
        v2(1, 0x41, ADDRESSES),
        v2(1, 0x12, ADDRESSES),
        v2(1, 0x10, ADDRESSES),
        v2(1, 0x11, ADDRESSES[:-1]),
        v2(1, 0x21, ADDRESSES),
        SIGNATURE + b"\x21\x11" + (BYTES_MAX - 15).to_bytes(2, "big"),
    ],
)
def test_what_is_not_exactly_a_header_is_an_error(raw: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        ProxyHeader().feed(raw)


@pytest.mark.parametrize(
    "raw",
    [v2(0, 0, b""), v2(0, 0x11, ADDRESSES), v2(1, 0, b""), v2(1, 0x31, bytes(216)), b"PROXY UNKNOWN\r\n"],
)
def test_a_proxy_that_speaks_for_itself_tells_no_address(raw: bytes) -> None:
    header = ProxyHeader()
    assert header.feed(raw + b"rest") == len(raw)
    assert (header.done, header.source) == (True, None)


def test_the_longest_header_of_each_version_is_read() -> None:
    addresses = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + bytes(4)
    longest = v2(1, 0x21, addresses + bytes(BYTES_MAX - 16 - len(addresses)))
    assert len(longest) == BYTES_MAX
    unknown = b"PROXY UNKNOWN " + b"x" * (V1_BYTES_MAX - 16) + b"\r\n"
    assert len(unknown) == V1_BYTES_MAX
    for raw, source in ((longest, "2001:db8::1"), (unknown, None)):
        header = ProxyHeader()
        assert header.feed(raw) == len(raw)
        assert (header.done, header.source) == (True, source)
