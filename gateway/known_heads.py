"""Request heads that were understood before, recalled by a MAC: what a client says again is not read again.

An SDK sends the same head with every request, but for the length of its body. The first time the whole way is
gone: llhttp, the table of operations, the decision about each header, the key. When that request has been
admitted, what was learnt is kept under a keyed BLAKE2b of the head's bytes without the digits of its
Content-Length; the next head with the same bytes has the same meaning. The key is made at start-up and never
kept, so memory holds no customer's key, and nobody can make two heads meet.

A connection mostly says what it said before. Where the key stands before the length, as the SDKs write it,
the head is compared with the one before byte by byte, and only the key in it by its MAC. What is kept for
that goes up to the provider anyway or tells nothing: a head with anything else, as a cookie, is not compared.

Bounds: only heads of admitted requests are kept, `HEADS_MAX` of `HEAD_BYTES_MAX`, the oldest forgotten first;
after `NEWS_MAX` new ones in a row a connection keeps and seeks no more. Whatever is not one whole request in
one read is not looked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, TypeAlias

from gateway.api_request import APIRequest
from gateway.provider import Provider

Buffer: TypeAlias = bytes | memoryview

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

_HEAD_END: Final = b"\r\n\r\n"
# Said to Karta alone, and no secret: neither is what goes up to the provider.
_HARMLESS: Final = {b"accept-encoding", b"connection", b"content-length", b"host"}
# In place of the digits of the length: no head holds it, so that a head without them is another.
_MARK: Final = b"\0"
_KEY_MARK: Final = b"\1"


class KnownHead:
    """What a head means: a request without its body, and the MAC of its key."""

    __slots__ = (
        "_beginning",
        "_end",
        "_middle",
        "_prefix",
        "_provider",
        "_token_bytes",
        "_token_tag",
        "request",
        "token_mac",
    )

    def __init__(self, request: APIRequest, token_mac: bytes) -> None:
        self.request = request
        self.token_mac = token_mac
        self._beginning = b""
        """The head up to its key; empty when it cannot be compared with another."""
        self._token_bytes = 0
        self._token_tag = b""
        self._middle = b""
        """From behind the key to the digits of the length."""
        self._end = b""
        """From behind those digits."""
        self._provider: Provider | None = None
        self._prefix = b""

    def prefix(self, provider: Provider) -> bytes:
        """The head that goes to the provider, up to where its key begins."""
        if provider is not self._provider:
            self._provider = provider
            self._prefix = self.request.upstream_prefix(provider)
        return self._prefix

    def make_comparable(self, constant: bytes, token: bytes, token_tag: bytes) -> None:
        """`constant` is the head with a mark for the digits of its length; `token_tag` is the MAC of its
        key."""
        beginning, _, rest = constant.partition(token)
        middle, mark, end = rest.partition(_MARK)
        if not mark:
            return
        self._beginning = beginning
        self._token_bytes = len(token)
        self._token_tag = token_tag
        self._middle = middle
        self._end = end + _HEAD_END

    def body_of(self, data: bytes, mac: Callable[[Buffer], bytes]) -> bytes | None:
        """The body, if `data` is one whole request with this head."""
        begin = len(self._beginning)
        if not begin or not data.startswith(self._beginning):
            return None
        behind = begin + self._token_bytes
        at = behind + len(self._middle)
        if not data.startswith(self._middle, behind):
            return None
        after = data.find(b"\r\n", at)
        if after < 0 or not data.startswith(self._end, after):
            return None
        body = data[after + len(self._end) :]
        if data[at:after] != b"%d" % len(body):
            return None
        # No copy of the key, which would stay in memory for as long as nothing else is put there.
        return body if mac(memoryview(data)[begin:behind]) == self._token_tag else None


class KnownHeads:
    """The heads one worker knows."""

    def __init__(self) -> None:
        self._keyed = blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._known: dict[bytes, KnownHead] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes, likely: KnownHead | None = None) -> tuple[KnownHead, bytes] | None:
        """The known head and the body, if `data` is one whole request whose head is known; `likely` is the
        head of the one before it."""
        if likely is not None:
            same = likely.body_of(data, self._mac)
            if same is not None:
                return likely, same
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
        constant = found[0]
        known = self._known[self._mac(constant)] = KnownHead(request.without_body(), token_mac)
        if _tells_nothing(constant, request):
            known.make_comparable(constant, request.token, self._mac(request.token))

    def _mac(self, secret: Buffer) -> bytes:
        # A copy of one that has taken in the key: the key's own block is not worked through each time.
        keyed = self._keyed.copy()
        keyed.update(secret)
        return keyed.digest()


def _take_apart(data: bytes) -> tuple[bytes, bytes] | None:
    """The head without the digits of its length, and the body; None when `data` is not one whole request."""
    end = data.find(_HEAD_END)
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
    return data[:at] + _MARK + data[after:end], body


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


def _tells_nothing(constant: bytes, request: APIRequest) -> bool:
    """Whether the head, but for its key, may be kept as it is."""
    token = request.token
    if constant.count(token) != 1:
        return False
    # The key goes first, so that no line that is cut out here holds a copy of it.
    beginning, _, rest = constant.partition(token)
    secrets_told = 0
    for line in (beginning + _KEY_MARK + rest).split(b"\r\n")[1:]:
        if line in request.lines or line.partition(b":")[0].lower() in _HARMLESS:
            continue
        if not line.endswith(_KEY_MARK):
            return False
        secrets_told += 1
    return secrets_told == 1
