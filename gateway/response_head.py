"""The head of the answer the client gets: the provider's, less what must not pass, plus Karta's request id.

Dropped: hop-by-hop fields, cookies (never shared between tenants), what speaks for the provider's own edge
(`server`, `alt-svc`, HSTS), and with a platform credential shared between tenants the provider's organization
identifiers.
"""

from __future__ import annotations

import re
from enum import IntEnum
from urllib.parse import urlsplit

from gateway.provider import Provider
from gateway.refusal import Kind, Refusal
from gateway.response_reader import ResponseReader

_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"content-length",
    b"upgrade",
}
_EDGE = {
    b"set-cookie",
    b"set-cookie2",
    b"server",
    b"alt-svc",
    b"strict-transport-security",
    b"clear-site-data",
    b"x-karta-request-id",
    b"x-karta-route",
    b"x-karta-route-tried",
}
_ACCOUNT = {
    b"openai-organization",
    b"openai-project",
    b"anthropic-organization-id",
    b"anthropic-workspace-id",
}

_REQUEST_IDS = {b"request-id", b"x-request-id"}


class _Rule(IntEnum):
    PASS = 0
    DROP = 1
    ACCOUNT = 2
    CONNECTION = 3
    CONTENT_TYPE = 4
    REQUEST_ID = 5
    LOCATION = 6


_RULES = {
    **dict.fromkeys(_HOP_BY_HOP | _EDGE, _Rule.DROP),
    **dict.fromkeys(_ACCOUNT, _Rule.ACCOUNT),
    **dict.fromkeys(_REQUEST_IDS, _Rule.REQUEST_ID),
    b"connection": _Rule.CONNECTION,
    b"content-type": _Rule.CONTENT_TYPE,
    b"location": _Rule.LOCATION,
}

# The rules for names by the spelling a provider used: one look-up decides a field.
_spelt: dict[bytes, _Rule] = {}
_SPELT_MAX = 4096
_SPELT_BYTES_MAX = 64

# Members used per field, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_PASS, _DROP, _ACCOUNTS, _CONTENT_TYPE, _REQUEST_ID = (
    _Rule.PASS,
    _Rule.DROP,
    _Rule.ACCOUNT,
    _Rule.CONTENT_TYPE,
    _Rule.REQUEST_ID,
)

# llhttp lets control characters through in the reason, where clients refuse them.
_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")


def _learn(name: bytes) -> _Rule:
    rule = _RULES.get(name.lower(), _PASS)
    if len(_spelt) < _SPELT_MAX and len(name) <= _SPELT_BYTES_MAX:
        _spelt[name] = rule
    return rule


class ClientHead:
    """What was learnt of an answer's head while it was rewritten."""

    __slots__ = ("content_type", "lines", "provider_request_id", "status_line")

    def __init__(self, reader: ResponseReader, provider: Provider, *, hide_account: bool) -> None:
        self.content_type = b""
        self.provider_request_id: bytes | None = None
        reason = reader.reason if _REASON.match(reader.reason) else b""
        self.status_line = b"HTTP/1.1 %d %s" % (reader.status, reason)
        lines = self.lines = []
        dropped: set[bytes] = set()
        for line in reader.lines:
            name, _, value = line.partition(b":")
            rule = _spelt.get(name)
            if rule is None:
                rule = _learn(name)
            if rule is _PASS:
                lines.append(line)
            elif rule is _DROP or (rule is _ACCOUNTS and hide_account):
                continue
            elif rule is _CONTENT_TYPE:
                self.content_type = value.strip(b" \t")
                lines.append(line)
            elif rule is _REQUEST_ID:
                self.provider_request_id = value.strip(b" \t")
                lines.append(line)
            elif rule is _Rule.CONNECTION:
                dropped.update(one.strip().lower() for one in value.strip(b" \t").split(b","))
            elif rule is _Rule.LOCATION and 300 <= reader.status < 400:
                lines.append(name + b": " + _own_location(value.strip(b" \t"), provider))
            else:
                lines.append(line)
        dropped -= {b"close", b"keep-alive"}
        if dropped:
            self.lines = [line for line in lines if line.partition(b":")[0].lower() not in dropped]

    @property
    def event_stream(self) -> bool:
        return self.content_type[:17].lower() == b"text/event-stream"

    def render(self, request_id: bytes, framing: bytes, *, close: bool) -> bytes:
        """The head's bytes; `framing` is the content-length or transfer-encoding line, or b"" for none."""
        parts = [self.status_line, *self.lines]
        if framing:
            parts.append(framing)
        if close:
            parts.append(b"connection: close")
        parts.append(b"x-karta-request-id: " + request_id)
        return b"\r\n".join(parts) + b"\r\n\r\n"


def _own_location(value: bytes, provider: Provider) -> bytes:
    """A redirect within the provider becomes one within Karta; one to elsewhere is refused.

    SDKs follow redirects and send `x-api-key` along: a customer's Karta key must not go to a third party.
    """
    elsewhere = Refusal(Kind.UPSTREAM_BROKEN, "The provider redirected to another host.")
    try:
        parts = urlsplit(value.decode("latin-1"))
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise elsewhere from None
    own = (parts.hostname, port) == (provider.origin.host.lower(), provider.origin.port)
    # Clients that take a backslash for a slash would find a host where there is none.
    if b"\\" in value or (not own and (parts.scheme or parts.netloc)):
        raise elsewhere
    if not own and not value.startswith(b"/"):
        # Relative to the path that was asked, which the client knows without the provider's prefix.
        return value
    path = provider.own_path(parts.path.encode("latin-1"))
    # Two slashes at the beginning would name another host.
    path = b"/" + path.lstrip(b"/")
    return path + (b"?" + parts.query.encode("latin-1") if parts.query else b"")
