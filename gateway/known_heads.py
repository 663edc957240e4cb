"""Request heads that were understood before, recalled by a MAC: what a client says again is not read again.

An SDK sends the same head with every request, but for the length of its body. The first time the whole way is
gone: llhttp, the table of operations, the decision about each header, the key. When that request has been
admitted, what was learnt is kept under a keyed BLAKE2b of the head's bytes without the digits of its
Content-Length; the next head with the same bytes has the same meaning. The key is made at start-up and never
kept, so memory holds no customer's key, and nobody can make two heads meet.

Bounds: only heads of admitted requests are kept, `HEADS_MAX` of `HEAD_BYTES_MAX`, the oldest forgotten first;
after `NEWS_MAX` new ones in a row a connection keeps and seeks no more. Whatever is not one whole request in
one read is not looked for.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import Final

from gateway.api_request import APIRequest
from gateway.provider import Provider

# More different clients than one worker serves at a time. About 2 KiB each; what is kept of the longest that
# is kept at all takes four times that.
HEADS_MAX: Final = 4096
HEAD_BYTES_MAX: Final = 4096

# A connection whose heads are new this often in a row has something in them that differs each time, as a
# trace id: keeping those would only push out others.
NEWS_MAX: Final = 8

# As the SDKs' HTTP clients write it, and in small letters. The line's beginning is part of it: what stands
# in the middle of another header's value is not this header.
_LENGTH_NAMES: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")


class KnownHead:
    """What a head means: a request without its body, and the MAC of its key."""

    __slots__ = ("_prefix", "_provider", "request", "token_mac")

    def __init__(self, request: APIRequest, token_mac: bytes) -> None:
        self.request = request
        self.token_mac = token_mac
        self._provider: Provider | None = None
        self._prefix = b""

    def prefix(self, provider: Provider) -> bytes:
        """The head that goes to the provider, up to where its key begins."""
        if provider is not self._provider:
            self._provider = provider
            self._prefix = self.request.upstream_prefix(provider)
        return self._prefix


class KnownHeads:
    """The heads one worker knows."""

    def __init__(self) -> None:
        self._keyed = blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._known: dict[bytes, KnownHead] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes) -> tuple[KnownHead, bytes] | None:
        """The known head and the body, if `data` is one whole request whose head is known."""
        found = _take_apart(data)
        if found is None:
            return None
        constant, body = found
        known = self._known.get(self._mac(constant))
        return None if known is None else (known, body)

    def remember(self, data: bytes, request: APIRequest, token_mac: bytes) -> None:
        """Keep what `data` meant, when it means the same each time."""
        if not _is_plain(request):
            return
        found = _take_apart(data)
        if found is None or len(found[0]) > HEAD_BYTES_MAX:
            return
        if len(self._known) >= HEADS_MAX:
            del self._known[next(iter(self._known))]
        self._known[self._mac(found[0])] = KnownHead(request.without_body(), token_mac)

    def _mac(self, head: bytes) -> bytes:
        # A copy of one that has taken in the key: the key's own block is not worked through each time.
        keyed = self._keyed.copy()
        keyed.update(head)
        return keyed.digest()


def _take_apart(data: bytes) -> tuple[bytes, bytes] | None:
    """The head without the digits of its length, and the body; None when `data` is not one whole request."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    for name in _LENGTH_NAMES:
        at = data.find(name, 0, end)
        if at >= 0:
            break
    else:
        # No body, then: a longer read is something else.
        return (data, b"") if end + 4 == len(data) else None
    at += len(name)
    after = data.find(b"\r\n", at, end + 2)
    body = data[end + 4 :]
    # As every client writes it, and nothing that only amounts to the same: no sign, no zeros before it.
    if data[at:after] != b"%d" % len(body):
        return None
    # The digits' place is marked by a byte that no head holds, so that a head without them is another.
    return data[:at] + b"\0" + data[after:end], body


def _is_plain(request: APIRequest) -> bool:
    inbound = request.inbound
    return (
        inbound.complete
        and inbound.keep_alive
        and inbound.version == "1.1"
        and inbound.method != b"HEAD"
        and not request.expects_continue
        # A body without a length came in chunks, whose framing is not looked at here.
        and (request.content_length >= 0 or not inbound.body_bytes)
        and not request.operation.path.startswith("/v1/messages/batches")
    )
