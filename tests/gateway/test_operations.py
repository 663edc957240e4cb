"""Every operation of both tables is found by its own path, and by no path that could mean another."""

from __future__ import annotations

from collections import Counter
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.operations import Operation, OperationKind, Operations, load
from gateway.refusal import Dialect

OPERATIONS = load()
LITERALS = {
    segment
    for operation in OPERATIONS.all
    for segment in operation.path.encode().split(b"/")
    if not segment.startswith(b"{")
}


def fill(path: str, value: bytes) -> bytes:
    """The template with `value` in the place of each parameter."""
    segments = path.encode().split(b"/")
    return b"/".join(value if segment.startswith(b"{") else segment for segment in segments)


def find(path: bytes, dialect: Dialect, method: str) -> Operation | None:
    found = OPERATIONS.match(path)
    return None if found is None else found.by_dialect.get(dialect, {}).get(method.encode())


def test_the_tables_hold_all_operations_of_both_sdks() -> None:
    counts = Counter(operation.dialect for operation in OPERATIONS.all)
    # 379 and 271 of the SDKs, and a few that only other clients call.
    assert counts[Dialect.OPENAI] >= 379
    assert counts[Dialect.ANTHROPIC] >= 271
    assert sum(counts.values()) == len(OPERATIONS.all)


def test_no_operation_is_there_twice_or_hidden_by_another() -> None:
    shapes = Counter(
        (operation.dialect, operation.method, fill(operation.path, b"{}")) for operation in OPERATIONS.all
    )
    assert [shape for shape, count in shapes.items() if count > 1] == []


def test_every_path_is_under_v1_and_plain() -> None:
    for operation in OPERATIONS.all:
        assert operation.path.startswith("/v1/")
        assert operation.method in {"GET", "POST", "PUT", "PATCH", "DELETE"}
        assert operation.metered is (operation.kind is OperationKind.METERED)


VALUES = [
    b"x",
    b"file-abc_123",
    b"gpt-4.1",
    b"...",
    b".hidden",
    b"ft%3Agpt-4o%3Aacme%2Fteam%3A%3Aid",
    b"%F0%9F%98%80",
    b"a%20b",
    b"100%25",
    b"%2e%2ehidden",
    b"{model_id}",
    b"a:b@c+d,e=f&g!h$i'j(k)*~",
]


@pytest.mark.parametrize("value", VALUES)
def test_every_operation_is_found_by_its_path(value: bytes) -> None:
    for operation in OPERATIONS.all:
        assert find(fill(operation.path, value), operation.dialect, operation.method) is operation


def _harmless(raw: bytes) -> bool:
    """A value none of whose parts, read leniently, is empty, dots or a literal of some path, or has a control
    character."""
    readings = (raw, unquote_to_bytes(raw))
    if any(byte < 0x20 or byte == 0x7F for byte in readings[1]):
        return False
    parts = {part.partition(b";")[0] for one in readings for part in one.replace(b"\\", b"/").split(b"/")}
    return parts.isdisjoint(LITERALS | {b"", b".", b".."})


# Text of any script, a slash among it, as SDKs encode it; control characters no id has.
values = (
    st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)
    .map(str.encode)
    .filter(_harmless)
    .map(lambda raw: quote_from_bytes(raw, safe="").encode())
)


@given(st.sampled_from(OPERATIONS.all), values)
@settings(max_examples=1000, deadline=None)
def test_every_operation_is_found_with_any_parameter(operation: Operation, value: bytes) -> None:
    assert find(fill(operation.path, value), operation.dialect, operation.method) is operation


def test_head_is_get_without_a_body() -> None:
    for operation in OPERATIONS.all:
        if operation.method == "GET":
            assert find(fill(operation.path, b"x"), operation.dialect, "HEAD") is operation
    assert find(b"/v1/messages", Dialect.ANTHROPIC, "HEAD") is None


def test_what_runs_models_unread_is_all_that_is_billed_elsewhere_but_for_storage() -> None:
    unread = {one.path for one in OPERATIONS.all if one.runs_unnamed}
    assert {"/v1/messages/batches", "/v1/batches", "/v1/threads/runs", "/v1/realtime/sessions"} <= unread
    left = {one.path for one in OPERATIONS.all if one.kind is OperationKind.ELSEWHERE} - unread
    assert {path.split("/")[2] for path in left} == {
        "agents",
        "audio",
        "containers",
        "content_provenance_checks",
        "environments",
        "vector_stores",
    }


def test_a_literal_wins_over_a_parameter_and_gives_way_where_it_leads_nowhere() -> None:
    def operation(path: str) -> Operation:
        return Operation(Dialect.OPENAI, OperationKind.FREE, False, "GET", path, False)

    table = [operation(path) for path in ("/v1/a/{id}", "/v1/a/mine", "/v1/a/{id}/b", "/v1/a/mine/c")]
    operations = Operations(table)
    for path, index in [(b"/v1/a/x", 0), (b"/v1/a/mine", 1), (b"/v1/a/mine/b", 2), (b"/v1/a/mine/c", 3)]:
        found = operations.match(path)
        assert found is not None
        assert found.by_dialect[Dialect.OPENAI][b"GET"] is table[index]


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"v1/messages",
        b"/v1",
        b"/v1/",
        b"/v2/messages",
        b"/v1/messages/",
        b"/v1//messages",
        b"//v1/messages",
        b"/V1/messages",
        b"/v1/Messages",
        b"/v1/%6Dessages",
        b"/v1%2Fmessages",
        b"/v1/messages%00",
        b"/v1/messages;x",
        b"/v1/messages/../models",
        b"/v1/models/",
        b"/v1/models//x",
        b"http://api.openai.com/v1/models",
        b"*",
    ],
)
def test_a_path_that_is_nearly_one_is_unknown(path: bytes) -> None:
    assert OPERATIONS.match(path) is None


@pytest.mark.parametrize(
    "value",
    [
        b".",
        b"..",
        b"%2e",
        b"%2e%2e",
        b"%2E%2e",
        b".%2e",
        b"%252e%252e",
        b"%2F..",
        b"x%2F..%2F..",
        b"x%2f%2e%2e%2fy",
        b"x%252F..%252Fy",
        b"..%2Fadmin",
        b"..%5Cadmin",
        b"..\\admin",
        b"x\\..\\y",
        b"..;",
        b"..;x=y",
        b"x%2F..;%2Fy",
        b"%00",
        b"x%00.json",
        b"..%00",
        b"x%0d%0aHost:%20y",
        b"x%250ay",
        b"%7f",
        b"",
    ],
)
def test_a_way_to_another_path_is_unknown(value: bytes) -> None:
    for template in ("/v1/models/{model}", "/v1/files/{file_id}/content", "/v1/messages/batches/{batch_id}"):
        assert OPERATIONS.match(fill(template, value)) is None


@pytest.mark.parametrize(
    ("path", "really"),
    [
        (b"/v1/threads/%72uns", b"/v1/threads/runs"),
        (b"/v1/threads/%2572uns", b"/v1/threads/runs"),
        (b"/v1/threads/runs;x", b"/v1/threads/runs"),
        (b"/v1/threads/x%2Fruns", b"/v1/threads/x/runs"),
        (b"/v1/threads/x%252Fruns", b"/v1/threads/x/runs"),
        (b"/v1/threads/x%5cruns", b"/v1/threads/x/runs"),
        (b"/v1/threads/x\\runs", b"/v1/threads/x/runs"),
        (b"/v1/threads/%2Fruns", b"/v1/threads/runs"),
        (b"/v1/threads/x%2Fruns%2F", b"/v1/threads/x/runs"),
        (b"/v1/messages/batches/x%2Fresults", b"/v1/messages/batches/x/results"),
    ],
)
def test_a_path_that_a_lenient_server_reads_as_another_is_unknown(path: bytes, really: bytes) -> None:
    """The first of these would start a billed run under the rules of a free look-up."""
    assert OPERATIONS.match(really) is not None
    assert OPERATIONS.match(path) is None


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_answered(path: bytes) -> None:
    OPERATIONS.match(path)
    OPERATIONS.match(b"/v1/models/" + path)
    OPERATIONS.match(b"/v1/files/" + path + b"/content")
