"""A member changed within an object's bytes, and no other byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.members import STEPS_MAX, TooManySteps, members, renamed, renamed_within
from gateway.refusal import Kind, Refusal


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
        # What is no text at all is no name that anybody looks for.
        (b'{"\xff":1,"model":"a"}', b'{"\xff":1,"model":"new"}'),
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


TOO_MANY = {
    "lists": b'{"model":"a","x":[' + b"[]," * STEPS_MAX + b"1]}",
    "depth": b'{"model":"a","x":' + b"[" * (STEPS_MAX + 1) + b"]" * (STEPS_MAX + 1) + b"}",
    "members": b'{"model":"a",' + b'"":1,' * STEPS_MAX + b'"x":1}',
    "within a session": b'{"session":{"model":"a","x":[' + b"[]," * STEPS_MAX + b"1]}}",
}


@pytest.mark.parametrize("what", TOO_MANY)
def test_a_body_of_nothing_but_brackets_is_not_walked_to_its_end(what: str) -> None:
    body = TOO_MANY[what]
    with pytest.raises(TooManySteps):
        list(members(body, 0))
    for rename in (lambda: renamed(body, "b"), lambda: renamed_within(body, "session", "b")):
        with pytest.raises(Refusal) as found:
            rename()
        assert found.value.kind is Kind.MALFORMED


def test_a_long_conversation_is() -> None:
    """Two steps a message, whatever it says."""
    said = b'{"role":"user","content":"one, \\"two\\": [three]","n":[1,2,3,4,5,6,7,8,9]},'
    body = b'{"messages":[' + said * (STEPS_MAX // 5) + b'{}],"model":"a"}'
    assert renamed(body, "b") == body[:-4] + b'"b"}'
