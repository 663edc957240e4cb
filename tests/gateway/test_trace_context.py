"""`traceparent` as the specification has it, and all that is not."""

from __future__ import annotations

import pytest

from gateway.trace_context import TraceParent, trace_parent

ID = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"
GOOD = TraceParent(int(ID, 16), int(SPAN, 16), sampled=True)


def line(value: bytes, name: bytes = b"traceparent") -> bytes:
    return name + b": " + value


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (b"00-%s-%s-01" % (ID, SPAN), True),
        (b"00-%s-%s-00" % (ID, SPAN), False),
        (b"00-%s-%s-03 " % (ID, SPAN), True),
        (b"01-%s-%s-01" % (ID, SPAN), True),
        (b"cc-%s-%s-01-what-comes-later" % (ID, SPAN), True),
    ],
)
def test_a_parent(value: bytes, sampled: bool) -> None:
    assert trace_parent([b"host: karta", line(value)]) == TraceParent(GOOD.trace_id, GOOD.span_id, sampled)
    assert trace_parent([line(value, b"TraceParent")]) is not None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        b"ff-%s-%s-01" % (ID, SPAN),
        b"00-%s-%s-01-more" % (ID, SPAN),
        b"00-%s-%s-01more" % (ID, SPAN),
        b"00-%s-%s-1" % (ID, SPAN),
        b"00-%s-%s-01" % (ID.upper(), SPAN),
        b"00-%s-%s-01" % (b"0" * 32, SPAN),
        b"00-%s-%s-01" % (ID, b"0" * 16),
        b"00-%s-%s-01" % (ID[:-1], SPAN),
        b"00-%s-%s-0g" % (ID, SPAN),
    ],
)
def test_no_parent(value: bytes) -> None:
    assert trace_parent([line(value)]) is None


def test_two_are_none() -> None:
    good = line(b"00-%s-%s-01" % (ID, SPAN))
    assert trace_parent([good, good]) is None
    assert trace_parent([]) is None
