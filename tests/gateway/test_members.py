"""A member changed within an object's bytes, and no other byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.members import members, renamed, renamed_within


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a","n":1}', b'{"model":"new","n":1}'),
        (b'{"model" : "a" , "n":1.0}', b'{"model" : "new" , "n":1.0}'),
        (b' \n{"n":[{"model":"a"}],\t"model":"a"}', b' \n{"n":[{"model":"a"}],\t"model":"new"}'),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"new"}'),
        (
            b'{"model":"a","x":"\\"model\\":\\"b\\"","model":"c"}',
            b'{"model":"new","x":"\\"model\\":\\"b\\"","model":"new"}',
        ),
        (b'{"model":{"a":["b"]},"n":1}', b'{"model":"new","n":1}'),
        (b'{"model":null}', b'{"model":"new"}'),
        (b'{"models":"a","input":"model"}', b'{"models":"a","input":"model"}'),
        (b"{}", b"{}"),
    ],
)
def test_the_model_renamed(body: bytes, expected: bytes) -> None:
    assert renamed(body, "new") == expected


def test_a_name_is_written_as_json_wants_it() -> None:
    assert renamed(b'{"model":"a"}', 'b"\\') == b'{"model":"b\\"\\\\"}'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text() | st.just("model"), json_values, max_size=6), st.text(), st.booleans())
def test_only_the_model_of_any_object_is_renamed(value: dict[str, Any], model: str, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = renamed(body, model)
    expected = value | ({"model": model} if "model" in value else {})
    assert json.loads(found.decode("utf-8", "surrogatepass")) == expected
    if "model" not in value:
        assert found == body


def test_where_members_lie() -> None:
    body = b'{"a": [1, {"b": 2}], "c": "}"}'
    assert [(key, body[begin:end]) for key, begin, end in members(body, 0)] == [
        ("a", b' [1, {"b": 2}]'),
        ("c", b' "}"'),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"session": {"model": "a", "x":1 } ,"model":"a"}',
            b'{"session": {"model": "b", "x":1 } ,"model":"a"}',
        ),
        (b'{"session":{"audio":{"model":"a"}}}', b'{"session":{"audio":{"model":"a"}}}'),
        (
            b'{"session":{"model":"a"},"session":{"model":7}}',
            b'{"session":{"model":"b"},"session":{"model":"b"}}',
        ),
        (b'{"session":"{model"}', b'{"session":"{model"}'),
    ],
)
def test_a_model_within_is_renamed_and_no_other(body: bytes, expected: bytes) -> None:
    assert renamed_within(body, "session", "b") == expected
