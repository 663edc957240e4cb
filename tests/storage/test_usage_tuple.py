"""The form rows travel in: an exact inverse, and what becomes of bytes that are none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InvalidValue
from storage.model import CredentialKind, Outcome, UsageRecord
from storage.usage_tuple import COLUMNS, NULLABLE, fit_tuple, split_tuples
from tests.storage.usage_records import usage
from tests.storage.usage_tuples import decode_tuple, encode_tuple

_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "uuid": st.uuids(),
    "text": st.text(st.characters(exclude_categories=("Cs",)), max_size=300),
    "boolean": st.booleans(),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "timestamptz": st.datetimes(timezones=st.just(UTC)),
}


def values(column: str) -> st.SearchStrategy[Any]:
    found = {
        "request_id": st.uuids().map(lambda request_id: request_id.hex),
        "credential_kind": st.sampled_from(CredentialKind),
        "outcome": st.sampled_from(Outcome),
    }.get(column, _STRATEGIES[COLUMNS[column]])
    return st.none() | found if column in NULLABLE else found


records = st.builds(UsageRecord, **{column: values(column) for column in COLUMNS})


@given(records)
def test_decoding_undoes_encoding(record: UsageRecord) -> None:
    assert decode_tuple(encode_tuple(record)) == record


@given(records)
def test_what_fits_stays_as_it_is(record: UsageRecord) -> None:
    changes = {
        name: max(0, value) if isinstance(value, int) else value[:256].replace("\0", "")
        for name in COLUMNS
        if COLUMNS[name] in ("integer", "bigint", "text") and (value := getattr(record, name)) is not None
    }
    data = encode_tuple(msgspec.structs.replace(record, **changes))
    [fields] = split_tuples(data, len(COLUMNS))
    assert fit_tuple(tuple(COLUMNS), fields) == data


@given(st.lists(st.none() | st.binary(max_size=20), min_size=len(COLUMNS), max_size=len(COLUMNS)))
def test_anything_can_be_made_to_fit(fields: list[bytes | None]) -> None:
    names = tuple(COLUMNS)
    fitted = fit_tuple(names, fields)
    [again] = split_tuples(fitted, len(names))
    assert fit_tuple(names, again) == fitted
    for name, content in zip(names, again, strict=True):
        assert content is not None or name in NULLABLE


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidValue):
        decode_tuple(data)


@given(records, st.data())
def test_a_torn_tuple_is_refused(record: UsageRecord, data: st.DataObject) -> None:
    whole = encode_tuple(record)
    with pytest.raises(InvalidValue):
        decode_tuple(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InvalidValue):
        decode_tuple(whole + whole)


@pytest.mark.parametrize(
    "changes",
    [{"input_tokens": 2**31}, {"request_id": "x"}, {"total_us": -(2**63) - 1}, {"provider": "\ud800"}],
)
def test_what_no_column_can_hold_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        encode_tuple(usage(**changes))


def test_the_form_is_the_databases() -> None:
    record = usage(request_id="00" * 16, started_at=datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC))
    data = encode_tuple(record)
    assert data.startswith(
        bytes((0, len(COLUMNS), 0, 0, 0, 16)) + bytes(16) + b"\0\0\0\x08" + (10**6).to_bytes(8, "big")
    )
