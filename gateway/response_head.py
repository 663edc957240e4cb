"""The head of the answer the client gets: the provider's, less what must not pass, plus Karta's request id.

Dropped: hop-by-hop fields, cookies (never shared between tenants), what speaks for the provider's own edge
(`server`, `alt-svc`, HSTS), and with a platform credential shared between tenants the provider's organization
identifiers.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from gateway.head_layout import Rule
from gateway.head_template import Template
from gateway.provider import Provider
from gateway.refusal import Kind, Refusal
from gateway.response_reader import ResponseReader

# Members used per field, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_CONTENT_TYPE: Final = Rule.CONTENT_TYPE
_REQUEST_ID: Final = Rule.REQUEST_ID
_ACCOUNT: Final = Rule.ACCOUNT
_CONNECTION: Final = Rule.CONNECTION
_LOCATION: Final = Rule.LOCATION

# llhttp lets control characters through in the reason, where clients refuse them.
_REASON: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")


_OK: Final = b"HTTP/1.1 200 OK"


class ClientHead:
    """What was learnt of an answer's head while it was rewritten."""

    __slots__ = ("content_type", "lines", "provider_request_id", "status_line")

    def __init__(self, reader: ResponseReader, provider: Provider, *, hide_account: bool) -> None:
        self.content_type = b""
        self.provider_request_id: bytes | None = None
        template = reader.layout.template
        if reader.match is not None and template is not None:
            self._take(reader.match, template, hide_account)
            return
        reason = reader.reason if _REASON.match(reader.reason) else b""
        self.status_line = b"HTTP/1.1 %d %s" % (reader.status, reason)
        lines = self.lines = reader.lines[:]
        dropped: set[bytes] | None = None
        # From the end, so that what goes does not move what is looked at next.
        for index, begin, rule in reader.layout.special:
            if rule is _CONTENT_TYPE:
                self.content_type = self.content_type or lines[index][begin:].strip(b" \t")
            elif rule is _REQUEST_ID:
                if self.provider_request_id is None:
                    self.provider_request_id = lines[index][begin:].strip(b" \t")
            elif rule is _LOCATION:
                if 300 <= reader.status < 400:
                    value = lines[index][begin:].strip(b" \t")
                    lines[index] = lines[index][:begin] + b" " + _own_location(value, provider)
            elif rule is not _ACCOUNT or hide_account:
                if rule is _CONNECTION:
                    value = lines[index][begin:].strip(b" \t")
                    dropped = dropped or set()
                    dropped.update([one.strip().lower() for one in value.split(b",")])
                del lines[index]
        if dropped is not None and (named := dropped - {b"close", b"keep-alive"}):
            self.lines = [line for line in lines if line.partition(b":")[0].lower() not in named]

    def _take(self, match: re.Match[bytes], template: Template, hide_account: bool) -> None:
        """The same, of a head that its layout's template knows: `lines` are runs of lines then."""
        self.status_line = _OK
        if template.content_type:
            self.content_type = match[template.content_type].strip(b" \t")
        if template.request_id:
            self.provider_request_id = match[template.request_id].strip(b" \t")
        passed = template.passed_hiding if hide_account else template.passed
        self.lines = [match[group] for group in passed]

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
