"""Of a request's body: the fields that matter, whatever their type."""

from __future__ import annotations

import msgspec
import pytest

from gateway.body_fields import BodyFields


@pytest.mark.parametrize("value", ["1", '"text"', "true", "null", "[1]", '{"a":1}'])
@pytest.mark.parametrize("field", BodyFields.__struct_fields__)
def test_a_field_of_any_type_is_read(field: str, value: str) -> None:
    body = f'{{"messages":[],"{field}":{value}}}'.encode()
    fields = msgspec.json.decode(body, type=BodyFields)
    assert getattr(fields, field) == msgspec.json.decode(value.encode())


def test_what_is_absent_is_none() -> None:
    fields = msgspec.json.decode(b'{"temperature":1}', type=BodyFields)
    assert {getattr(fields, field) for field in BodyFields.__struct_fields__} == {None}
