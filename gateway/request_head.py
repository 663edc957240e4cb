"""What becomes of each request header: one table, one decision a name.

The head that goes to the provider is built new. A field goes up only if a rule lets it: the API families
(`anthropic-*`, `openai-*`, `x-*` with what SDKs and customers add) and the standard end-to-end fields listed
here. Never: the customer's credential, cookies, what other proxies said about the client, and everything that
is hop-by-hop. `accept-encoding` is replaced, because Karta reads the answer as it passes (RFC 9110 sections
7.6.1 and 12.5.3; the decision is docs/decisions/0004).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Field(IntEnum):
    """What to do with a header field."""

    FORWARD = 0
    DROP = 1
    API_KEY = 2
    AUTHORIZATION = 3
    CONTENT_TYPE = 4
    CONTENT_LENGTH = 5
    TRANSFER_ENCODING = 6
    EXPECT = 7
    HOST = 8
    CONNECTION = 9
    ANTHROPIC_VERSION = 10
    ACCOUNT = 11
    """Which part of the provider's account is meant: goes up, unless that account is the platform's and
    shared (docs/decisions/0005)."""
    FORWARDED_PROTO = 12
    """What a proxy says the client spoke: never goes up."""


_SPECIAL: Final = {
    b"x-api-key": Field.API_KEY,
    b"authorization": Field.AUTHORIZATION,
    b"content-type": Field.CONTENT_TYPE,
    b"content-length": Field.CONTENT_LENGTH,
    b"transfer-encoding": Field.TRANSFER_ENCODING,
    b"expect": Field.EXPECT,
    b"host": Field.HOST,
    b"connection": Field.CONNECTION,
    b"anthropic-version": Field.ANTHROPIC_VERSION,
    b"x-forwarded-proto": Field.FORWARDED_PROTO,
    **dict.fromkeys(
        (b"anthropic-organization-id", b"anthropic-workspace-id", b"openai-organization", b"openai-project"),
        Field.ACCOUNT,
    ),
}

_FORWARDED: Final = {
    b"accept",
    b"accept-language",
    b"baggage",
    b"cache-control",
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-md5",
    b"date",
    b"digest",
    b"idempotency-key",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"last-event-id",
    b"pragma",
    b"prefer",
    b"priority",
    b"range",
    b"request-id",
    b"traceparent",
    b"tracestate",
    b"user-agent",
}

_FAMILIES: Final = (b"anthropic-", b"openai-", b"x-")

# Inside the x- family: what proxies say of a client, which the provider must not believe or learn.
_NEVER_FAMILIES: Final = (
    b"x-forwarded-",
    b"x-envoy-",
    b"x-amzn-",
    b"x-amz-cf-",
    b"x-original-",
    b"x-rewrite-",
    b"x-karta-",
)
_NEVER: Final = {
    b"x-forwarded",
    b"x-real-ip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-remote-addr",
    b"x-remote-ip",
    b"x-originating-ip",
    b"x-http-method-override",
    b"x-http-method",
    b"x-method-override",
    b"x-host",
    b"x-arr-ssl",
    b"x-goog-api-key",
}

# Decisions already made, by the name as it was written. Clients write few spellings; a stranger who writes
# many only makes this start anew.
_decided: dict[bytes, Field] = {}
_DECIDED_MAX: Final = 4096
_DECIDED_BYTES_MAX: Final = 64

forwarded: set[bytes] = set()
"""The names known to be forwarded, as they were written: one look-up decides most fields."""


def decide(name: bytes) -> Field:
    """What to do with the field `name`, in any case."""
    found = _decided.get(name)
    if found is None:
        found = _decide(name.lower())
        if len(name) <= _DECIDED_BYTES_MAX:
            if len(_decided) >= _DECIDED_MAX:
                _decided.clear()
                forwarded.clear()
            _decided[name] = found
            if found in (Field.FORWARD, Field.ANTHROPIC_VERSION):
                forwarded.add(name)
    return found


def _decide(name: bytes) -> Field:
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    if name in _FORWARDED:
        return Field.FORWARD
    if b"_" in name:
        # Servers that fold names (CGI, WSGI) take `x-api_key` for `x-api-key`: a second name for what is
        # dropped.
        return Field.DROP
    if name in _NEVER or name.startswith(_NEVER_FAMILIES):
        return Field.DROP
    return Field.FORWARD if name.startswith(_FAMILIES) else Field.DROP
