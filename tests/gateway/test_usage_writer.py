"""Our tuple says what storage's says, for any request; and what a stranger says finds a place in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway import usage_writer
from gateway.authorize import Grant
from gateway.usage_writer import COLUMNS, NAME_CHARACTERS_MAX, NUMBERS, UsageWriter
from storage import usage_tuple
from storage.model import CredentialKind, Outcome, UsageRecord
from tests.gateway.journals import record
from tests.storage.usage_tuples import decode_tuple, encode_tuple

INTEGER_MAX = 2**31 - 1
BIGINT_MAX = 2**63 - 1


class Key(NamedTuple):
    org_id: UUID
    key_id: str


class Named(NamedTuple):
    name: str = ""
    path: str = ""
    key: Key | None = None
    operation: Any = None
    credential_id: UUID | None = None
    model: str | None = None


def grant_of(record: UsageRecord) -> Grant:
    """As much of a grant as the writer looks at."""
    sealed = None if record.credential_id is None else Named(credential_id=record.credential_id)
    return Grant(
        cast(Any, Named(key=Key(record.org_id, record.key_id))),
        cast(Any, Named(operation=Named(path=record.endpoint))),
        cast(Any, Named(name=record.provider)),
        record.credential_kind,
        cast(Any, sealed),
    )


def write(writer: UsageWriter, record: UsageRecord) -> bytes:
    """The record as `Metering.settle` hands it on."""
    texts = (
        record.model_asked,
        record.model_answered,
        record.service_tier,
        record.outcome.value,
        record.price_version,
        record.provider_request_id,
    )
    numbers = {name: getattr(record, name) for name in NUMBERS}
    numbers["request_id"] = bytes.fromhex(record.request_id)
    numbers["started_at"] = (record.started_at - usage_tuple.EPOCH) // timedelta(microseconds=1)
    begin = writer.begin(grant_of(record))
    return writer.write(begin, texts, record.cost_picodollars, tuple(numbers.values()))


def read(data: bytes) -> dict[str, bytes | None]:
    (fields,) = usage_tuple.split_tuples(data, len(COLUMNS))
    return dict(zip(COLUMNS, fields, strict=True))


def decode(data: bytes) -> UsageRecord:
    fields = read(data)
    ordered = [fields[name] for name in usage_tuple.COLUMNS]
    # Nothing is mended on the way: what has no place does not decode.
    return decode_tuple(
        len(ordered).to_bytes(2, "big")
        + b"".join(
            b"\xff\xff\xff\xff" if one is None else len(one).to_bytes(4, "big") + one for one in ordered
        )
    )


texts = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=NAME_CHARACTERS_MAX
)
integers = st.integers(0, INTEGER_MAX)
bigints = st.integers(0, BIGINT_MAX)
optional = st.none() | texts
RECORDS = st.builds(
    UsageRecord,
    request_id=st.uuids().map(lambda one: one.hex),
    started_at=st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    org_id=st.uuids(),
    key_id=texts,
    credential_kind=st.sampled_from(CredentialKind),
    credential_id=st.none() | st.uuids(),
    provider=texts,
    endpoint=texts,
    model_asked=optional,
    model_answered=optional,
    service_tier=optional,
    status=st.integers(0, 599),
    outcome=st.sampled_from(Outcome),
    streamed=st.booleans(),
    usage_complete=st.booleans(),
    input_tokens=integers,
    output_tokens=integers,
    cache_read_tokens=integers,
    cache_write_5m_tokens=integers,
    cache_write_1h_tokens=integers,
    reasoning_tokens=integers,
    input_audio_tokens=integers,
    output_audio_tokens=integers,
    server_tool_calls=integers,
    cost_picodollars=st.none() | bigints,
    price_version=optional,
    charged_picodollars=bigints,
    provider_request_id=optional,
    request_bytes=bigints,
    response_bytes=bigints,
    queue_us=integers,
    verify_us=integers,
    dial_us=integers,
    first_byte_us=integers,
    total_us=bigints,
)


def test_the_columns_are_storages_and_each_once() -> None:
    assert sorted(COLUMNS) == sorted(usage_tuple.COLUMNS)
    assert COLUMNS[-len(NUMBERS) :] == NUMBERS


@given(st.lists(RECORDS, min_size=1, max_size=3))
# Not shrunk: with this many fields that takes minutes.
@settings(max_examples=100, phases=[Phase.explicit, Phase.reuse, Phase.generate], deadline=None)
def test_a_tuple_is_storages_in_another_order(records: list[UsageRecord]) -> None:
    """Also from a writer that has written others, and written it before."""
    writer = UsageWriter()
    for one in [*records, *records]:
        # A key is one organization's.
        one = msgspec.structs.replace(one, org_id=uuid5(NAMESPACE_OID, one.key_id))
        data = write(writer, one)
        (fields,) = usage_tuple.split_tuples(encode_tuple(one), len(COLUMNS))
        assert read(data) == dict(zip(usage_tuple.COLUMNS, fields, strict=True))
        assert decode(data) == one


def record_with(**fields: Any) -> UsageRecord:
    return msgspec.structs.replace(record(1), **fields)


@pytest.mark.parametrize(
    "name", [name for name in NUMBERS if usage_tuple.COLUMNS[name] in ("integer", "bigint")]
)
@pytest.mark.parametrize("beyond", ["above", "below"])
def test_a_number_out_of_range_is_its_columns_last(name: str, beyond: str) -> None:
    """And the others are as they were."""
    most = INTEGER_MAX if usage_tuple.COLUMNS[name] == "integer" else BIGINT_MAX
    value, kept = (most + 1, most) if beyond == "above" else (-(10**30), 0)
    assert decode(write(UsageWriter(), record_with(**{name: value}))) == record_with(**{name: kept})


HOSTILE = {
    "a NUL": ("a\0b", "a\ufffdb"),
    "a lone surrogate": ("a\ud800b", "a?b"),
    "only surrogates": ("\udfff" * 3, "???"),
    "long": ("x" * 100_000, "x" * NAME_CHARACTERS_MAX),
    "long and wide": ("\U0001f600" * 1000, "\U0001f600" * NAME_CHARACTERS_MAX),
    "empty": ("", ""),
}


@pytest.mark.parametrize(
    "name", ["model_asked", "model_answered", "service_tier", "price_version", "provider_request_id"]
)
@pytest.mark.parametrize("what", HOSTILE)
def test_a_text_a_stranger_chose_finds_a_place(what: str, name: str) -> None:
    said, kept = HOSTILE[what]
    writer = UsageWriter()
    for _ in range(2):
        assert decode(write(writer, record_with(**{name: said}))) == record_with(**{name: kept})


@pytest.mark.parametrize("cost", [None, 0, 1, BIGINT_MAX])
def test_an_unknown_cost_is_not_nothing(cost: int | None) -> None:
    assert decode(write(UsageWriter(), record_with(cost_picodollars=cost))).cost_picodollars == cost


def test_an_immense_cost_finds_a_place() -> None:
    assert decode(write(UsageWriter(), record_with(cost_picodollars=10**30))).cost_picodollars == BIGINT_MAX


def test_what_is_prepared_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_writer, "PREPARED_MAX", 10)
    writer = UsageWriter()
    for number in range(100):
        one = record_with(
            model_asked=f"made up {number}", key_id=f"{number:012}", provider_request_id=f"r{number}"
        )
        assert decode(write(writer, one)) == one
        assert len(writer._texts) <= 10
        assert len(writer._grants) <= 10


def test_a_stranger_s_long_names_are_not_kept() -> None:
    """Of a name of megabytes not even the beginning: thousands of them would fill the memory."""
    writer = UsageWriter()
    longest = "m" * NAME_CHARACTERS_MAX
    for number in range(10):
        write(writer, record_with(model_asked=f"{number}" + "x" * 100_000, model_answered=longest))
    assert longest in writer._texts
    assert max(len(text or "") for text in writer._texts) == NAME_CHARACTERS_MAX


def test_ids_of_single_answers_are_not_kept() -> None:
    writer = UsageWriter()
    for number in range(10):
        write(writer, record_with(provider_request_id=f"req_{number}"))
    assert not [text for text in writer._texts if text is not None and text.startswith("req_")]


def test_a_key_may_have_several_ways_to_a_provider() -> None:
    """Whatever a prepared beginning is found by, it says all that differs."""
    writer = UsageWriter()
    ways = [
        {},
        {"endpoint": "/v1/models"},
        {"provider": "openai"},
        {"credential_id": UUID(int=9)},
        {"credential_kind": CredentialKind.PLATFORM, "credential_id": None},
        {"key_id": "another"},
    ]
    for way in ways * 2:
        assert decode(write(writer, record_with(**way))) == record_with(**way)


def test_the_epoch_is_the_databases() -> None:
    assert usage_tuple.EPOCH.timestamp() * 1_000_000 == usage_writer.EPOCH_US
