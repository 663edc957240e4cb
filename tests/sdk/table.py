"""Every operation of the tables, each as a set of odd but valid requests."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import msgspec

from gateway import operations
from gateway.operations import Operation
from gateway.refusal import Dialect
from tests.sdk.wire import request

_PARAMETER = re.compile(r"\{[^}]+\}")
_ODD_IDS = ("a%2Fb", "%E2%82%AC%20x", "id%252e", "x~y!$&'()*+,=:@", "%7bcurly%7D", "UPPER_lower-1.2")
_ODD_QUERY = "key[]=a&key[]=b%20c&sub[x]=%2F&beta=true&empty=&flag&u=%C3%BC&q='(*)!&again=1&again=2"
_JSON = (
    b'{"model":"sim:tokens=3","max_tokens":9,"messages":[{"role":"user","content":"\xc3\xa9"}],"n":1.0,"n":1}'
)
_BOUNDARY = "karta-tests"
_FORM = (
    (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nsim:tokens=2\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    + bytes(range(256)) * 9
    + f"\r\n--{_BOUNDARY}--\r\n".encode()
)

Headers = list[tuple[str, str]]


class Sent(msgspec.Struct):
    """One request as bytes; `pause_at` is where the client waits for `100 Continue` (0: nowhere)."""

    name: str
    method: str
    data: bytes
    pause_at: int = 0


Variant = Callable[[Operation, str, Headers], Sent | None]


def rows(dialect: Dialect) -> list[tuple[str, list[Operation]]]:
    """The operations of one API in portions by their first path segment."""
    found = [one for one in operations.load().all if one.dialect is dialect]
    found.sort(key=_first_segment)
    return [(name, list(members)) for name, members in itertools.groupby(found, key=_first_segment)]


def _first_segment(operation: Operation) -> str:
    return operation.path.split("/")[2]


def requests(operation: Operation, host: str, key: str) -> Iterator[Sent]:
    """Every variant that fits the operation's method, in the header style of its dialect."""
    for number, variant in enumerate(_VARIANTS):
        headers = [("Host", host), *_credential(operation.dialect, key, number)]
        sent = variant(operation, _path(operation, odd=number > 0), headers)
        if sent is not None:
            yield sent


def _credential(dialect: Dialect, key: str, number: int) -> Headers:
    if dialect is Dialect.OPENAI:
        return [("AUTHORIZATION" if number % 2 else "authorization", f"Bearer {key}")]
    if number % 2:
        return [("X-API-Key", key), ("Anthropic-Version", "2023-06-01")]
    return [("authorization", f"Bearer {key}"), ("anthropic-version", "2026-10-21")]


def _path(operation: Operation, *, odd: bool) -> str:
    ids = itertools.cycle(_ODD_IDS if odd else ["id-1", "id_2", "id3"])
    return _PARAMETER.sub(lambda _: next(ids), operation.path)


def _plain(operation: Operation, path: str, headers: Headers) -> Sent | None:
    """As SDKs write it: JSON where a body may be, a content type without a body elsewhere."""
    typed = [*headers, ("Content-Type", "application/json"), ("Accept", "application/json")]
    body = _JSON if operation.method == "POST" else None
    return Sent("plain", operation.method, request(operation.method, path, typed, body))


def _odd_query(operation: Operation, path: str, headers: Headers) -> Sent | None:
    body = b"" if operation.method == "POST" else None
    return Sent(
        "odd query", operation.method, request(operation.method, f"{path}?{_ODD_QUERY}", headers, body)
    )


def _in_chunks(operation: Operation, path: str, headers: Headers) -> Sent | None:
    if operation.method != "POST":
        return None
    typed = [*headers, ("CONTENT-TYPE", "application/json; charset=utf-8")]
    return Sent("chunked", "POST", request("POST", path, typed, _JSON, chunks=4))


def _no_body_at_all(operation: Operation, path: str, headers: Headers) -> Sent | None:
    """POST with neither length nor chunks, GET and DELETE with `Content-Length: 0`."""
    typed = [*headers, ("Content-Type", "application/json")]
    body = None if operation.method == "POST" else b""
    return Sent("no body", operation.method, request(operation.method, f"{path}?", typed, body))


def _head(operation: Operation, path: str, headers: Headers) -> Sent | None:
    if operation.method != "GET":
        return None
    return Sent("head", "HEAD", request("HEAD", f"{path}?beta=true", headers))


def _form(operation: Operation, path: str, headers: Headers) -> Sent | None:
    if operation.method != "POST":
        return None
    typed = [*headers, ("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")]
    return Sent("multipart", "POST", request("POST", path, typed, _FORM))


def _continued(operation: Operation, path: str, headers: Headers) -> Sent | None:
    if operation.method != "POST":
        return None
    typed = [*headers, ("Content-Type", "application/json"), ("Expect", "100-continue")]
    data = request("POST", path, typed, _JSON)
    return Sent("expect", "POST", data, pause_at=len(data) - len(_JSON))


_VARIANTS: tuple[Variant, ...] = (_plain, _odd_query, _in_chunks, _no_body_at_all, _head, _form, _continued)
