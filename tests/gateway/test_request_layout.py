"""A head of a known shape means what the whole way makes of it, or is not found: `find` compares them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import request_layout
from gateway.request_layout import SHAPES_MAX
from tests.gateway.test_known_heads import GET, OTHER, POST, TOKEN, find, knowing, split
from tests.support.requests import get, post

FULL = post(
    TOKEN,
    headers="User-Agent: Anthropic/Python 0.90.0 (a: b)\r\nX-Stainless-Retry-Count: 0\r\nvia: 1.1 edge\r\n"
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\naccept-encoding: gzip\r\n"
    "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nproxy-connection: keep-alive\r\nTE: trailers\r\n"
    "cookie: session=1\r\nauthorization: Bearer sk-of-the-provider\r\n",
)
INSERTED = [
    *(one.encode("latin-1") for one in ("\r", "\n", "\r\n", "\0", "\1", "\t", " ", ",", ":", "\xff", "\x7f")),
    *(b"\r\n" + line for line in FULL.split(b"\r\n")[1:-2]),
    *(b"kt_", b" kt_", OTHER, b"close", b"\r\n ", b"\r\nconnection: close", b"\r\nexpect: 100-continue"),
    *(b"\r\ntransfer-encoding: chunked", b"\r\nupgrade: h2c", b"\r\nconnection: user-agent, via"),
]


@given(st.data())
@settings(max_examples=1000, deadline=None)
def test_whatever_is_changed_in_a_head_what_is_found_is_what_the_whole_way_makes_of_it(
    data: st.DataObject,
) -> None:
    known = data.draw(st.sampled_from([POST, GET, FULL]))
    heads = knowing(known)
    head, body = split(known)
    changed = bytearray(head)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)))
        match data.draw(st.sampled_from(["replace", "insert", "delete", "double", "case"])):
            case "replace" if at < len(changed):
                changed[at] = data.draw(st.integers(0, 255))
            case "insert":
                changed[at:at] = data.draw(st.sampled_from(INSERTED) | st.binary(min_size=1, max_size=20))
            case "delete":
                del changed[at : at + data.draw(st.integers(1, 20))]
            case "double":
                changed[at:at] = changed[max(0, at - data.draw(st.integers(1, 40))) : at]
            case "case":
                changed[at:] = changed[at:].swapcase()
    find(heads, bytes(changed) + body)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_values_that_nobody_judges_by_may_be_anything_printable(data: st.DataObject) -> None:
    head, body = split(FULL)
    lines = head.split(b"\r\n")
    printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
    for at, line in enumerate(lines):
        if line.startswith(
            (b"User-Agent:", b"X-Stain", b"via:", b"traceparent:", b"cookie:", b"authorization:")
        ):
            lines[at] = line.partition(b":")[0] + b":" + data.draw(printable).encode()
    changed = b"\r\n".join(lines)
    if b"kt_" in changed.replace(TOKEN.encode(), b""):
        return
    found = find(knowing(FULL), changed + body)
    assert found is not None
    assert found.repeated == (changed == head)


@pytest.mark.parametrize(
    "line",
    [
        *("host: other", "host: kartas", "anthropic-version: 2024-01-01", "content-type: application/jsons"),
        *("Connection: close", "proxy-connection: close", "TE: gzip", "X-Stainless-Retry-Count: \xff"),
        *(
            "via: a\tb",
            "via: a\rb",
            "via: a\nb",
            "via: a\0b",
            "via: a kt_x",
            "cookie: a=kt_live_of_another_one",
        ),
        *("Via: x", "via : x", " via: x", "via"),
    ],
)
def test_values_that_are_judged_by_must_be_the_same(line: str) -> None:
    name = line.partition(":")[0].strip().lower().encode()
    lines = [
        line.encode("latin-1") if one.lower().startswith(name + b":") else one for one in FULL.split(b"\r\n")
    ]
    assert line.encode("latin-1") in lines
    assert knowing(FULL).find(b"\r\n".join(lines)) is None


def test_a_shape_has_all_lines_and_no_more() -> None:
    head, body = split(FULL)
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    for some in (lines[:-1], [*lines, lines[-1]], [*lines, b"x: y"]):
        assert knowing(FULL).find(b"\r\n".join(some) + b"\r\n\r\n" + body) is None


def test_a_field_that_is_meant_for_this_hop_stays_here_whatever_its_value() -> None:
    found = find(knowing(FULL), FULL.replace(b"X-Hop: 1", b"X-Hop: 2"))
    assert found is not None
    assert not any(line.startswith(b"X-Hop") for line in found.known.request.lines)


def test_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    shaped = [post(TOKEN, headers=f"x-{number}: 1\r\n") for number in range(SHAPES_MAX + 3)]
    heads = knowing(*shaped, *shaped)
    assert len(heads.shapes) == SHAPES_MAX
    heads._known.clear()
    assert [find(heads, one) is not None for one in shaped] == [False] * 3 + [True] * SHAPES_MAX
    monkeypatch.setattr(request_layout, "STARTS_MAX", 3)
    started = [get(TOKEN, f"/v1/models/{number}") for number in range(5)]
    heads = knowing(*started)
    assert len(heads.shapes) == 3
    heads._known.clear()
    assert [find(heads, one) is not None for one in started] == [False, False, True, True, True]


def test_a_second_key_in_any_field_is_for_the_whole_way_to_judge() -> None:
    for name in (b"authorization: Bearer ", b"via: ", b"User-Agent: "):
        assert knowing(FULL).find(FULL.replace(name, name + OTHER)) is None
