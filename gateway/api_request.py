"""Stage 2: `Inbound → APIRequest`. What is asked, of which API, with which key, and the few fields needed.

Order: `recognise` works on the head alone, so that a wrong path or an over-long body is refused before a byte
of the body is read; `take_body` looks into the body once it is there. The body itself is never changed:
msgspec reads the fields named here and skips the rest, and the bytes that came are the bytes that go.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gateway.body_fields import NO_FIELDS, BodyFields, read_unusual
from gateway.form import boundary_of, model_of
from gateway.limits import Limits
from gateway.operations import Operation, Operations, PathOperations
from gateway.provider import Provider
from gateway.refusal import Dialect, Kind, Refusal
from gateway.request_head import Field, decide, forwarded
from gateway.request_reader import Inbound
from gateway.usage_figures import TOKENS_MAX
from gateway.worst_case import WEIGHED_BYTES_MIN, estimate_input, seems_encoded

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_UNKNOWN: Final = Dialect.UNKNOWN
_FORWARD: Final = Field.FORWARD
_ANTHROPIC_VERSION: Final = Field.ANTHROPIC_VERSION
_CONTENT_TYPE: Final = Field.CONTENT_TYPE
_API_KEY: Final = Field.API_KEY
_AUTHORIZATION: Final = Field.AUTHORIZATION
_CONTENT_LENGTH: Final = Field.CONTENT_LENGTH
_HOST: Final = Field.HOST
_CONNECTION: Final = Field.CONNECTION
_DROP: Final = Field.DROP
_ACCOUNT: Final = Field.ACCOUNT

_EXPLICIT: Final = ((b"/anthropic/v1/", Dialect.ANTHROPIC), (b"/openai/v1/", Dialect.OPENAI))
# Printable ASCII without "#": a fragment is for the client alone, and one more way to disguise a path.
_TARGET: Final = re.compile(rb'/[!"$-~]*\Z')
_NO_LENGTH: Final = -1
_KEY_PREFIX: Final = b"kt_"
_RESPONSES: Final = "/v1/responses"

_fields_decoder: Final = msgspec.json.Decoder(BodyFields)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Those of a body that has none, or is not looked into."""


class APIRequest:
    """A request whose head is understood. `target` is the raw path and query as the provider shall see it."""

    __slots__ = (
        "answered_here",
        "bearer",
        "body",
        "boundary",
        "buffered",
        "content_length",
        "dialect",
        "expects_continue",
        "fields",
        "host",
        "inbound",
        "input_tokens_max",
        "json",
        "lines",
        "names_account",
        "operation",
        "schemes",
        "target",
        "token",
        "usage_added",
    )

    def __init__(self, inbound: Inbound, operation: Operation, target: bytes) -> None:
        self.inbound = inbound
        self.operation = operation
        self.dialect = operation.dialect
        self.target = target
        self.lines: list[bytes] = []
        """Header lines that go up as they came."""
        self.names_account = False
        """Some of them tell which part of the provider's account is meant."""
        self.host = b""
        self.schemes = b""
        """What proxies say the client spoke, in small letters."""
        self.token = b""
        self.bearer = False
        """The token came as `Authorization: Bearer`; the provider's goes up in the same style."""
        self.content_length = _NO_LENGTH
        self.json = True
        """The body is JSON, as far as its content type says."""
        self.boundary = b""
        """The body is a form, as far as that says, and this stands between its parts."""
        self.expects_continue = False
        self.buffered = False
        """The body is read whole before it goes up: its fields matter, or it is small and here already."""
        self.body = b""
        """The whole body, once `take_body` has run; stays empty for one that streams."""
        self.fields = NO_FIELDS
        self.input_tokens_max = TOKENS_MAX
        self.answered_here = False
        """What it goes on from is a response that was told on the same connection."""
        self.usage_added = False
        """The body was made to ask for usage, which the answer must be freed of again (`include_usage`)."""

    def without_body(self) -> APIRequest:
        """What the head alone says, for requests with the same head."""
        inbound = Inbound()
        inbound.method = self.inbound.method
        inbound.complete = True
        kept = self._copy(inbound)
        kept.lines = [line[:] for line in self.lines]
        return kept

    def again(self, body: bytes, fields: BodyFields) -> APIRequest:
        """The same request with another body."""
        request = self._copy(self.inbound)
        request.body = body
        request.fields = fields
        return request

    def _copy(self, inbound: Inbound) -> APIRequest:
        copy = APIRequest(inbound, self.operation, self.target)
        copy.lines = self.lines
        copy.names_account = self.names_account
        copy.host = self.host
        copy.bearer = self.bearer
        # Only whether there is one still matters.
        copy.content_length = self.content_length
        copy.json = self.json
        copy.boundary = self.boundary
        copy.buffered = True
        return copy

    def upstream_prefix(self, provider: Provider, *, hide_account: bool) -> bytes:
        """The head that goes to `provider`, but for the length of its body and the key; `hide_account` where
        the account there is shared, and no part of it is for the client to choose."""
        lines = self.lines
        if hide_account and self.names_account:
            lines = [line for line in lines if decide(line.partition(b":")[0]) is not _ACCOUNT]
        return b"\r\n".join(
            (
                self.inbound.method + b" " + provider.path(self.target) + b" HTTP/1.1",
                b"host: " + provider.host_header,
                *lines,
                b"accept-encoding: identity",
                b"",
            )
        )

    def forget(self) -> None:
        """An answer has begun, so nothing will be sent again: let head and body go. An open stream may last
        for hours, and there may be thousands."""
        self.weigh()
        self.body = b""
        self.lines = []
        self.inbound.lines = []

    def weigh(self) -> None:
        """Before its body goes: a long one may be a picture's, whose bytes say nothing of tokens."""
        if len(self.body) > WEIGHED_BYTES_MIN and self.json and seems_encoded(self.body):
            self.input_tokens_max = estimate_input(self.body).tokens

    @property
    def model(self) -> str | None:
        model = self.fields.model
        return model if isinstance(model, str) else None

    @property
    def streaming(self) -> bool:
        return self.fields.stream is True

    @property
    def in_background(self) -> bool:
        """It asks to be answered with a receipt. Elsewhere the word means nothing, and is no way round."""
        return self.fields.background is True and self.operation.path == _RESPONSES

    @property
    def repeatable(self) -> bool:
        """It makes nothing at the provider: it may be sent again when nobody knows what became of it."""
        return self.operation.stateless or self.inbound.method in (b"GET", b"HEAD")

    @property
    def told_plain(self) -> bool:
        """Proxies say that the client spoke HTTP without TLS, and none of them that it spoke it with."""
        return bool(self.schemes) and b"http" in self.schemes and b"https" not in self.schemes

    @property
    def by_reference(self) -> bool:
        """It goes on from what is kept at the provider, which becomes part of its input."""
        fields = self.fields
        return not (
            fields.previous_response_id is fields.conversation is fields.container is fields.thread is None
        )

    def __repr__(self) -> str:
        return f"APIRequest({self.operation.method} {self.operation.path})"


def recognise(inbound: Inbound, operations: Operations, limits: Limits) -> APIRequest:
    """Understand the head. Raises `Refusal` for what Karta does not forward."""
    if inbound.version not in ("1.1", "1.0"):
        raise Refusal(Kind.VERSION_UNSUPPORTED, "Only HTTP/1.1 and HTTP/1.0 are spoken here.", close=True)
    if inbound.upgrade:
        # WebSockets go another way: `websocket.upgrade`.
        raise Refusal(Kind.NOT_SUPPORTED, "There is nothing to upgrade to here.", close=True)
    target = inbound.target
    explicit = _UNKNOWN
    # Nearly every request asks for a path without parameters, prefix or query: then there is nothing to
    # examine.
    found = operations.static.get(target)
    if found is None:
        explicit, target = split_prefix(target)
        found = operations.match(target.partition(b"?")[0])
    if found is None:
        raise Refusal(Kind.NOT_FOUND, "Unknown path: Karta forwards only known operations of the two APIs.")
    operation = _choose(found, explicit, inbound)
    request = APIRequest(inbound, operation, target)
    read_head(request, limits)
    return request


def split_prefix(target: bytes) -> tuple[Dialect, bytes]:
    """The dialect named by `/anthropic/v1/…` or `/openai/v1/…`, and the target as the provider knows it.

    Raises `Refusal`.
    """
    if not _TARGET.match(target):
        raise Refusal(Kind.MALFORMED, "The request target must be a path of printable ASCII.", close=True)
    for prefix, dialect in _EXPLICIT:
        if target.startswith(prefix):
            return dialect, target[len(prefix) - len(b"/v1/") :]
    return _UNKNOWN, target


def guess_dialect(inbound: Inbound) -> Dialect:
    """The best guess for an error about a request that was not recognised."""
    for prefix, dialect in _EXPLICIT:
        if inbound.target.startswith(prefix):
            return dialect
    return Dialect.ANTHROPIC if _is_anthropic(inbound) else Dialect.OPENAI


def _is_anthropic(inbound: Inbound) -> bool:
    return any(decide(name) is _ANTHROPIC_VERSION for name, _ in inbound.headers)


def _choose(found: PathOperations, explicit: Dialect, inbound: Inbound) -> Operation:
    """One operation of a path: by explicit prefix, by who has the path, else by `anthropic-version`."""
    by_dialect = found.by_dialect
    if explicit is not _UNKNOWN:
        dialect: Dialect = explicit
    elif len(by_dialect) == 1:
        (dialect,) = by_dialect
    else:
        dialect = Dialect.ANTHROPIC if _is_anthropic(inbound) else Dialect.OPENAI
    methods = by_dialect.get(dialect)
    if methods is None:
        raise Refusal(Kind.NOT_FOUND, f"The {dialect} API has no such path.")
    operation = methods.get(inbound.method)
    if operation is None:
        allowed = ", ".join(sorted(method.decode() for method in methods))
        raise Refusal(Kind.METHOD_NOT_ALLOWED, f"This path takes {allowed}.", fields=(f"allow: {allowed}",))
    return operation


def read_head(request: APIRequest, limits: Limits) -> None:
    """Sort the fields: what goes up as it came, the key, and what Karta has to know. Raises `Refusal`."""
    inbound = request.inbound
    content_type = b""
    dropped: set[bytes] = set()
    hosts = 0
    forward = request.lines
    for line in inbound.lines:
        name, _, value = line.partition(b":")
        if name in forwarded:
            forward.append(line)
            continue
        field = decide(name)
        if field is _DROP:
            continue
        value = value.strip(b" \t")
        if field is _FORWARD or field is _ANTHROPIC_VERSION or field is _ACCOUNT:
            forward.append(line)
            request.names_account |= field is _ACCOUNT
        elif field is _CONTENT_TYPE:
            content_type = _only(content_type, value)
            forward.append(line)
        elif field is _API_KEY:
            _take_token(request, value.strip(), bearer=False)
        elif field is _AUTHORIZATION:
            scheme, _, credentials = value.partition(b" ")
            if scheme.lower() == b"bearer":
                _take_token(request, credentials.strip(), bearer=True)
        elif field is _CONTENT_LENGTH:
            request.content_length = int(value)
        elif field is _HOST:
            request.host = value
            hosts += 1
        elif field is _CONNECTION:
            dropped.update(value.translate(None, b" \t").lower().split(b","))
        else:
            _read_rare(request, field, value)
    if hosts != 1 and (hosts or inbound.version == "1.1"):
        raise Refusal(Kind.MALFORMED, "HTTP/1.1 needs one Host header, and no more.", close=True)
    if dropped:
        _drop_named(request, dropped)
    _refuse_misplaced_key(request)
    request.boundary = boundary_of(content_type, request.lines)
    request.json = not request.boundary and (not content_type or b"json" in content_type.lower())
    # A form that is larger, or whose length is not told, streams.
    form = bool(request.boundary) and 0 <= request.content_length <= limits.body_bytes_max
    request.buffered = inbound.complete or (request.operation.names_model and (request.json or form))
    bytes_max = limits.body_bytes_max if request.buffered else limits.upload_bytes_max
    if request.content_length > bytes_max or inbound.body_bytes > bytes_max:
        raise Refusal(Kind.TOO_LARGE, f"The request body is larger than {bytes_max} bytes.", close=True)


def _take_token(request: APIRequest, token: bytes, *, bearer: bool) -> None:
    """Of two different keys the Karta key is meant (an SDK may find a second one in its environment); two of
    those are one too many.
    """
    if request.token and request.token != token:
        if not token.startswith(_KEY_PREFIX):
            return
        if request.token.startswith(_KEY_PREFIX):
            raise Refusal(Kind.MALFORMED, "Two different keys: send one, in x-api-key or Authorization.")
    request.token = token
    request.bearer = bearer


def _refuse_misplaced_key(request: APIRequest) -> None:
    """What goes up as it came must not hold the customer's key: it would reach the provider, and its logs."""
    token = request.token
    if token.startswith(_KEY_PREFIX) and (
        token in request.target or any(token in line for line in request.lines)
    ):
        raise Refusal(Kind.MALFORMED, "Send the key only as x-api-key or Authorization: Bearer.")


def _drop_named(request: APIRequest, names: set[bytes]) -> None:
    """A field named by Connection is meant for this hop only (RFC 9110 section 7.6.1)."""
    if names - {b"close", b"keep-alive"}:
        request.lines = [line for line in request.lines if line.partition(b":")[0].lower() not in names]


def _only(earlier: bytes, value: bytes) -> bytes:
    """Of two content types Karta would judge the body by one and the provider by the other."""
    if earlier:
        raise Refusal(Kind.MALFORMED, "More than one Content-Type header.", close=True)
    return value


def _read_rare(request: APIRequest, field: Field, value: bytes) -> None:
    """Transfer-Encoding, Expect and X-Forwarded-Proto."""
    if field is Field.FORWARDED_PROTO:
        request.schemes += value.lower() + b","
    elif field is Field.EXPECT:
        if value.strip().lower() != b"100-continue":
            raise Refusal(
                Kind.EXPECTATION_FAILED, "The only expectation met here is 100-continue.", close=True
            )
        request.expects_continue = request.inbound.version == "1.1"
    elif request.inbound.version == "1.0":
        # HTTP/1.0 knows no chunks: a hop that goes by that would see another body.
        raise Refusal(Kind.MALFORMED, "Transfer-Encoding needs HTTP/1.1.", close=True)
    elif value.strip().lower() != b"chunked":
        raise Refusal(Kind.NOT_SUPPORTED, "The only transfer coding taken here is chunked.", close=True)


def take_body(request: APIRequest) -> None:
    """Take the complete body and look into it."""
    request.body = request.inbound.take_body()
    request.fields = read_fields(request, request.body)


def read_fields(request: APIRequest, body: bytes) -> BodyFields:
    """The fields Karta needs of the body of `request`. An empty one has none; a malformed one is refused."""
    if not request.operation.names_model or not body:
        return NO_FIELDS
    if request.boundary:
        return BodyFields(model=model_of(body, request.boundary))
    try:
        return _fields_decoder.decode(body)
    except _UNREADABLE:
        return read_unusual(body, json=request.json)
