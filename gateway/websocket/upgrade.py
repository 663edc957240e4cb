"""Which WebSockets there are, and the two heads of their handshake (sans-IO, RFC 6455 section 4).

The client's key and the provider's proof of it pass through, so that each side proves itself to the other.
What does not pass: extensions (a compressed frame tells nothing of its usage) and a browser's way to show a
key, as a subprotocol: such a key is in the page of whoever looks, which OpenAI itself calls insecure.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from urllib.parse import parse_qs, quote, unquote_plus

from gateway.api_request import APIRequest, read_head, split_prefix
from gateway.authorize import Grant
from gateway.body_fields import BodyFields
from gateway.limits import Limits
from gateway.operations import Operation, OperationKind
from gateway.refusal import Dialect, Kind, Refusal
from gateway.request_reader import Inbound
from gateway.response_head import ClientHead

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# 16 bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==\Z")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_BROWSER_KEY = b"openai-insecure-api-key."
_BROWSER_ACCOUNT = (b"openai-organization.", b"openai-project.")


def _operation(path: str, *, kind: OperationKind, stateless: bool) -> Operation:
    return Operation(
        dialect=Dialect.OPENAI,
        kind=kind,
        stateless=stateless,
        method="GET",
        path=path,
        metered=kind is OperationKind.METERED,
    )


REALTIME = _operation("/v1/realtime", kind=OperationKind.METERED, stateless=True)
_REALTIME_CALL = _operation("/v1/realtime", kind=OperationKind.METERED, stateless=False)
"""Joins a call that exists at the provider (`?call_id=`), whoever began it."""
RESPONSE = _operation("/v1/responses", kind=OperationKind.METERED, stateless=True)
_RESPONSES = _operation("/v1/responses", kind=OperationKind.FREE, stateless=True)
"""The socket itself, on which no model is named yet."""
LIVE = _operation("/v1/live/sessions", kind=OperationKind.METERED, stateless=False)
"""A minute of a session."""
LIVE_SESSION = _operation("/v1/live/sessions", kind=OperationKind.FREE, stateless=False)
"""And its socket."""


class Handshake:
    """What the client asked for."""

    __slots__ = ("key", "protocols")

    def __init__(self, key: bytes, protocols: bytes) -> None:
        self.key = key
        self.protocols = protocols


def recognise_socket(inbound: Inbound, limits: Limits) -> APIRequest:
    """As `api_request.recognise`, for a request to change protocols. Raises `Refusal`."""
    offered = [value.lower() for name, value in inbound.headers if name.lower() == b"upgrade"]
    if inbound.version != "1.1" or inbound.method != b"GET" or offered != [b"websocket"]:
        raise Refusal(Kind.NOT_SUPPORTED, "CONNECT, and other protocols than WebSocket, are not supported.")
    dialect, target = split_prefix(inbound.target)
    if dialect is Dialect.ANTHROPIC:
        raise Refusal(Kind.NOT_SUPPORTED, "The anthropic API has no WebSockets.", close=True)
    request = APIRequest(inbound, operation_of(target), target)
    read_head(request, limits)
    _name_model(request)
    return request


def operation_of(target: bytes) -> Operation:
    """The socket that a target (without Karta's own prefixes) names. Raises `Refusal`."""
    path, _, query = target.partition(b"?")
    if path == b"/v1/responses":
        return _RESPONSES
    if path == b"/v1/realtime":
        # As the provider reads it: a letter of the name may be written in two digits.
        names_call = "call_id" in unquote_plus(query.decode("latin-1")).lower()
        return _REALTIME_CALL if names_call else REALTIME
    if path == b"/v1/live/sessions":
        return LIVE_SESSION
    if path.startswith(b"/v1/live/"):
        raise Refusal(
            Kind.NOT_SUPPORTED,
            "Karta forwards a Live session's own socket (/v1/live/sessions), and none that attaches to a "
            "session or forks one: they tell the same costs again, or no model.",
            close=True,
        )
    raise Refusal(Kind.NOT_SUPPORTED, "There is no WebSocket here that Karta forwards.", close=True)


def _name_model(request: APIRequest) -> None:
    """Realtime's model stands in the query, and counts like one in a body."""
    query = request.target.partition(b"?")[2].decode("ascii")
    models = parse_qs(query).get("model", [])
    if len(models) > 1:
        raise Refusal(Kind.MALFORMED, "The query names its model twice.", close=True)
    if models:
        request.fields = BodyFields(model=models[0])


def read_handshake(inbound: Inbound) -> Handshake:
    """Raises `Refusal` for what is no opening handshake, or not one that Karta forwards."""
    found: dict[bytes, bytes] = {}
    for name, value in inbound.headers:
        lower = name.lower()
        if lower.startswith(b"sec-websocket-"):
            found[lower] = found[lower] + b", " + value if lower in found else value
    key = found.get(b"sec-websocket-key", b"")
    if found.get(b"sec-websocket-version") != b"13" or not _KEY.match(key):
        raise Refusal(Kind.MALFORMED, "This is no opening handshake of a WebSocket, version 13.", close=True)
    if inbound.body_bytes:
        raise Refusal(Kind.MALFORMED, "Frames may follow only when the upgrade is answered.", close=True)
    protocols = [one.strip() for one in found.get(b"sec-websocket-protocol", b"").split(b",") if one.strip()]
    if any(one.startswith(_BROWSER_KEY) for one in protocols):
        raise Refusal(
            Kind.MALFORMED,
            "A key as a subprotocol would be in the page for everybody to read: connect from a server, with "
            "Authorization: Bearer.",
            close=True,
        )
    if not all(_TOKEN.match(one) and b"kt_" not in one for one in protocols):
        raise Refusal(Kind.MALFORMED, "A subprotocol that is no token, or holds a key.", close=True)
    return Handshake(key, b", ".join(protocols))


def aim(grant: Grant) -> None:
    """Make the request of a routed socket the target's. Realtime's model is renamed in the query; the
    Responses API knows of none there, so that this one, which was Karta's to read, ends here."""
    request = grant.request
    path, _, query = request.target.partition(b"?")
    fields = []
    for field in query.split(b"&"):
        if unquote_plus(field.partition(b"=")[0].decode("ascii")) != "model":
            fields.append(field)
        elif request.operation is REALTIME:
            fields.append(b"model=" + quote(grant.model or "", safe="").encode("ascii"))
    grant.request = request.again(b"", request.fields)
    grant.request.target = path + (b"?" + b"&".join(fields) if fields else b"")


def upstream_prefix(prefix: bytes, handshake: Handshake, *, hide_account: bool) -> bytes:
    """The head that goes up, but for the key; `prefix` and `hide_account` are of
    `APIRequest.upstream_prefix`. A browser names a part of the account by subprotocols.
    """
    lines = [
        b"connection: Upgrade",
        b"upgrade: websocket",
        b"sec-websocket-version: 13",
        b"sec-websocket-key: " + handshake.key,
    ]
    protocols = handshake.protocols
    if hide_account:
        protocols = b", ".join(one for one in protocols.split(b", ") if not one.startswith(_BROWSER_ACCOUNT))
    if protocols:
        lines.append(b"sec-websocket-protocol: " + protocols)
    return prefix + b"\r\n".join(lines) + b"\r\n"


def check_fields(lines: Iterable[bytes]) -> None:
    """Raises ValueError for what is no header field: a line end of half a pair, say, would make two of one at
    some client. An answer that is no 101 is parsed by llhttp, which sees to that."""
    if not all(map(_FIELD.match, lines)):
        raise ValueError("its head is not valid HTTP/1.1")


def answer_head(handshake: Handshake, lines: list[bytes], head: ClientHead, request_id: bytes) -> bytes:
    """The 101 for the client, from the lines of the provider's and what of them may pass (`head`); more lines
    may follow.

    Raises ValueError when the provider did not agree to what was asked.
    """
    told: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        told[name.strip().lower()] = value.strip(b" \t")
    proof = base64.b64encode(hashlib.sha1(handshake.key + _GUID, usedforsecurity=False).digest())
    protocol = told.get(b"sec-websocket-protocol")
    asked = handshake.protocols.split(b", ")
    if (
        told.get(b"upgrade", b"").lower() != b"websocket"
        or told.get(b"sec-websocket-accept") != proof
        or b"sec-websocket-extensions" in told
        or (protocol is not None and protocol not in asked)
    ):
        raise ValueError("it did not agree to the WebSocket that was asked for")
    passed = [line for line in head.lines if not line.lower().startswith(b"sec-websocket-")]
    answer = [
        b"HTTP/1.1 101 Switching Protocols",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-accept: " + proof,
        *([b"sec-websocket-protocol: " + protocol] if protocol is not None else []),
        *passed,
        b"x-karta-request-id: " + request_id,
    ]
    return b"\r\n".join(answer)
