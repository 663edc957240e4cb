"""Requests made to ask for usage: every byte of theirs stays, and every reader of JSON sees the option."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.include_usage import ask_for_usage
from gateway.members import STEPS_MAX

ON = b'{"include_usage":true}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"stream_options":%s}' % ON),
        (b" { } ", b' {"stream_options":%s } ' % ON),
        (b'{"model":"m"}', b'{"stream_options":%s,"model":"m"}' % ON),
        (b'\n{ "model":"m"}', b'\n{"stream_options":%s, "model":"m"}' % ON),
        (b'{"stream_options":null}', b'{"stream_options":%s}' % ON),
        (b'{"stream_options" : null ,"a":1}', b'{"stream_options" : %s ,"a":1}' % ON),
        (b'{"stream_options":{}}', b'{"stream_options":%s}' % ON),
        (b'{"stream_options":{ }}', b'{"stream_options":{"include_usage":true }}'),
        (
            b'{"a":[{"b":"]"}],"stream_options":{"include_obfuscation":false},"c":-1.50e3}',
            b'{"a":[{"b":"]"}],"stream_options":{"include_usage":true,"include_obfuscation":false},"c":-1.50e3}',
        ),
        (b'{"stream_options":{"include_usage":false}}', b'{"stream_options":{"include_usage":true}}'),
        (
            b'{"stream_options":{"x":{"include_usage":1},"include_usage" : null , "y":[]}}',
            b'{"stream_options":{"x":{"include_usage":1},"include_usage" : true , "y":[]}}',
        ),
        # A key may be written in escapes.
        (b'{"stream\\u005foptions":null}', b'{"stream\\u005foptions":%s}' % ON),
        (
            b'{"stream_options":{"include\\u005fusage":false}}',
            b'{"stream_options":{"include\\u005fusage":true}}',
        ),
        # The words in text or deeper are not the option.
        (
            b'{"m":"\\"stream_options\\":{}","n":{"stream_options":{}}}',
            b'{"stream_options":%s,"m":"\\"stream_options\\":{}","n":{"stream_options":{}}}' % ON,
        ),
        (
            b'{"n":["stream_options",{"stream_options":{}}],"stream_options":{},"m":"\\\\"}',
            b'{"n":["stream_options",{"stream_options":{}}],"stream_options":%s,"m":"\\\\"}' % ON,
        ),
        (b'{"stream_options":{"a":"}{,:"}}', b'{"stream_options":{"include_usage":true,"a":"}{,:"}}'),
        # Of two, all are made to ask: some readers take the first, some the last.
        (
            b'{"stream_options":{"a":1},"b":2,"stream_options":null}',
            b'{"stream_options":{"include_usage":true,"a":1},"b":2,"stream_options":%s}' % ON,
        ),
        (
            b'{"stream_options":{"include_usage":true},"stream_options":{"include_usage":false}}',
            b'{"stream_options":{"include_usage":true},"stream_options":{"include_usage":true}}',
        ),
        (
            b'{"stream_options":{"include_usage":true,"include_usage":false}}',
            b'{"stream_options":{"include_usage":true,"include_usage":true}}',
        ),
    ],
)
def test_asking(body: bytes, expected: bytes) -> None:
    assert ask_for_usage(body) == expected
    assert json.loads(expected)["stream_options"]["include_usage"] is True
    assert ask_for_usage(expected) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream_options":{"include_usage":true}}',
        b'{"stream_options":{"include_usage":false},"stream_options":{"include_usage":true}}',
        # For the provider to refuse.
        b'{"stream_options":"yes"}',
        b'{"stream_options":[]}',
        b'{"stream_options":{"include_usage":"yes"}}',
        b'{"stream_options":{"include_usage":1}}',
        b"",
        b"[]",
        b"null",
        b'{"a":',
        b'{"a":1}}',
        b"[" * 100_000,
    ],
)
def test_what_is_left_alone(body: bytes) -> None:
    assert ask_for_usage(body) is None


texts = st.text(max_size=8) | st.sampled_from(
    ["stream_options", "include_usage", '"', "\\", "{", "}", ",", ":"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
options = st.none() | st.dictionaries(texts, values, max_size=3)


@given(
    st.dictionaries(texts, values, max_size=4),
    st.none() | st.tuples(options, st.integers(0, 4)),
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
)
@settings(max_examples=500, deadline=None)
def test_any_body(
    members: dict[str, Any], given_options: tuple[Any, int] | None, ascii_only: bool, indent: Any
) -> None:
    """Whatever else is in it: read again, it is the same but for the option."""
    pairs = [(name, value) for name, value in members.items() if name != "stream_options"]
    if given_options is not None:
        pairs.insert(given_options[1], ("stream_options", given_options[0]))
    body = json.dumps(dict(pairs), ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    before = dict(pairs).get("stream_options") or {}
    asked = ask_for_usage(body)
    if asked is None:
        assert before.get("include_usage", False) not in (None, False)
        return
    after = json.loads(asked)
    assert after == dict(pairs) | {"stream_options": before | {"include_usage": True}}


def test_a_large_body_is_not_walked_for_nothing() -> None:
    body = b'{"messages":[' + b'{"role":"user","content":"x"},' * 100_000 + b"{}]}"
    asked = ask_for_usage(body)
    assert asked == b'{"stream_options":%s,' % ON + body[1:]
    assert ask_for_usage(body[:-1] + b',"stream_options":{}}') == body[:-1] + b',"stream_options":%s}' % ON


@pytest.mark.parametrize("options", [b"{}", b'{"x":[%s1]}' % (b"[]," * STEPS_MAX)])
def test_a_body_of_nothing_but_brackets_goes_up_as_it_is(options: bytes) -> None:
    body = b'{"x":[' + b"[]," * STEPS_MAX + b'1],"stream_options":' + options + b"}"
    assert ask_for_usage(body) is None


@pytest.mark.parametrize("options", [b"[%s1]", b'{"include_usage":[%s1]}', b'{"x":[%s1]}'])
def test_nothing_is_made_of_brackets(options: bytes) -> None:
    body = b'{"stream_options":' + options % (b"[]," * 300_000) + b"}"
    tracemalloc.start()
    asked = ask_for_usage(body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert asked is None
    assert most < 3 * len(body)
