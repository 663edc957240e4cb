"""Of a request's body: the fields that matter, whatever their type."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest

from gateway.body_fields import BodyFields, Lenient, Other

TEXT, NUMBER, SWITCH = ['"text"'], ["1", "1.5"], ["true", "false"]
USUAL = {
    "model": TEXT,
    "stream": SWITCH,
    "max_tokens": NUMBER,
    "max_completion_tokens": NUMBER,
    "max_output_tokens": [*NUMBER, *TEXT],
    "n": NUMBER,
    "service_tier": TEXT,
    "previous_response_id": TEXT,
    "conversation": TEXT,
    "container": TEXT,
    "thread": TEXT,
    "background": SWITCH,
    "fallbacks": TEXT,
}


@pytest.mark.parametrize("field", BodyFields.__struct_fields__)
def test_what_the_apis_name_is_read_at_the_first_look(field: str) -> None:
    for value in [*USUAL[field], "null"]:
        fields = msgspec.json.decode(f' {{"messages":[],"{field}":{value}}}', type=BodyFields)
        assert getattr(fields, field) == msgspec.json.decode(value)
    fields = msgspec.json.decode(b'{"%s":{"id":[1],"x":{}}}' % field.encode(), type=BodyFields)
    assert getattr(fields, field) == Other()


@pytest.mark.parametrize("value", ["1", "1.5", '"text"', "true", "null", "[1]", '{"a":1}'])
@pytest.mark.parametrize("field", BodyFields.__struct_fields__)
def test_a_field_of_any_type_is_read(field: str, value: str) -> None:
    body = f'{{"messages":[], "{field}" : {value} ,"temperature":[]}}'.encode()
    expected = msgspec.json.decode(value) if value in [*USUAL[field], "null"] else Other()
    for decode in (Lenient(BodyFields).decode, Lenient(BodyFields).decode_unusual):
        assert getattr(decode(body), field) == expected


def test_what_is_absent_is_none() -> None:
    for decode in (Lenient(BodyFields).decode, Lenient(BodyFields).decode_unusual):
        fields = decode(b'{"temperature":1}')
        assert {getattr(fields, field) for field in BodyFields.__struct_fields__} == {None}


def test_one_of_another_type_changes_none_of_the_others() -> None:
    body = b'{"model":"m","n":"2","stream":true,"container":[],"max_tokens":7}'
    assert Lenient(BodyFields).decode(body) == BodyFields(
        model="m",
        n=Other(),
        stream=True,
        container=Other(),
        max_tokens=7,
    )


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'{"n":1e999}', b'{"n":%s}' % (b"9" * 5000)])
def test_what_is_no_object_or_beyond_all_bounds_is_told(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        Lenient(BodyFields).decode(body)


@pytest.mark.parametrize("field", BodyFields.__struct_fields__)
@pytest.mark.parametrize("start", [b"[", b'{"a":['])
def test_nothing_is_made_of_brackets(start: bytes, field: str) -> None:
    """Or a body of a few megabytes would hold up a worker for a second, and its memory would be a hundred."""
    end = {b"[": b"]", b'{"a":[': b"]}"}[start]
    body = b'{"%s":%s' % (field.encode(), start) + b"[]," * 300_000 + b"[]" + end + b"}"
    decoder = Lenient(BodyFields)
    tracemalloc.start()
    assert getattr(decoder.decode(body), field) == Other()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 * len(body)
