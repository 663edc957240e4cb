"""Event rendering: names, padding, line ends."""

import json

from bench.sim import sse


def test_a_named_event_has_both_lines() -> None:
    assert sse.named("ping", {"type": "ping"}, pad=False) == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_padding_keeps_the_json_equal() -> None:
    shapes = set()
    for index in range(200):
        data = sse.named("x", {"index": index}, pad=True)
        line = data.partition(b"data: ")[2][:-2]
        assert json.loads(line) == {"index": index}
        shapes.add("none" if line.endswith(b"%d}" % index) else "inside" if line.endswith(b"}") else "after")
    assert shapes == {"none", "inside", "after"}


def test_line_ends_change_only_line_ends() -> None:
    data = sse.bare({"text": "a\nb"})
    assert sse.with_newline(data, "lf") == data
    assert sse.with_newline(data, "crlf") == b'data: {"text":"a\\nb"}\r\n\r\n'
    assert sse.with_newline(data, "cr") == b'data: {"text":"a\\nb"}\r\r'
