"""Request heads that were understood before, recalled by a MAC: what clients say again is not read again.

An SDK sends the same head with every request, but for the length of its body, and all who use it send the
same but for their key. The first time the whole way is gone: llhttp, the table of operations, the decision
about each header. When that request has been admitted, what was learnt is kept under a keyed BLAKE2b of the
head's bytes without the key and the digits of its Content-Length; the next head with the same bytes has the
same meaning. Whose it is, the key alone tells, by the MAC that verified keys are recalled by. No key is kept.

A connection mostly says what it said before. Where the key stands before the length, as the SDKs write it,
the head is compared with the one before byte by byte. What is kept for that goes up to the provider anyway or
tells nothing: a head with anything else, as a cookie, is not compared. A head that is not known may have a
known shape (`request_layout`).

Bounds: only heads of admitted requests are kept, `HEADS_MAX` of `HEAD_BYTES_MAX`, the oldest forgotten first;
after `NEWS_MAX` new ones in a row of a connection's, one of `NEWS_KEPT` is. Whatever is not one whole request
in one read is not looked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, TypeAlias

from gateway.api_request import APIRequest
from gateway.provider import Provider
from gateway.request_layout import ANY_KEY, KEY_MARK, LENGTH_MARK, Shapes

Buffer: TypeAlias = bytes | memoryview

# More different clients than one worker serves at a time. About 2 KiB each; what is kept of the longest that
# is kept at all takes four times that.
HEADS_MAX: Final = 4096
HEAD_BYTES_MAX: Final = 4096

# A connection whose heads are new this often in a row has something in them that differs each time, as a
# trace id, and keeping those would only push out others; or it is a balancer's, with the heads of many.
NEWS_MAX: Final = 8
NEWS_KEPT: Final = 64

# As the SDKs' HTTP clients write it, and in small letters. The line's beginning is part of it: what stands
# in the middle of another header's value is not this header.
_LENGTH_NAMES: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")

_HEAD_END: Final = b"\r\n\r\n"
_KEY_BEGINNING: Final = b" kt_"
# Said to Karta alone, and no secret: neither is what goes up to the provider.
_HARMLESS: Final = {b"accept-encoding", b"connection", b"content-length", b"host"}


def is_kept(news: int) -> bool:
    """Whether the head of a connection that has had this many new ones in a row is to be kept."""
    return news <= NEWS_MAX or not news % NEWS_KEPT


class KnownHead:
    """What a head means: a request without its body and its key."""

    __slots__ = (
        "_beginning",
        "_end",
        "_hides_account",
        "_middle",
        "_prefix",
        "_provider",
        "_token_bytes",
        "request",
    )

    def __init__(self, request: APIRequest) -> None:
        self.request = request
        self._beginning = b""
        """The head up to its key; empty when it cannot be compared with another."""
        self._token_bytes = 0
        self._middle = b""
        """From behind the key to the digits of the length."""
        self._end = b""
        """From behind those digits."""
        self._provider: Provider | None = None
        self._hides_account = False
        self._prefix = b""

    def prefix(self, provider: Provider, *, hide_account: bool) -> bytes:
        """The head that goes to the provider, up to where its key begins."""
        if provider is not self._provider or hide_account is not self._hides_account:
            self._provider = provider
            self._hides_account = hide_account
            self._prefix = self.request.upstream_prefix(provider, hide_account=hide_account)
        return self._prefix

    def make_comparable(self, constant: bytes, token_bytes: int) -> None:
        """`constant` is the head with its marks."""
        beginning, _, rest = constant.partition(KEY_MARK)
        middle, mark, end = rest.partition(LENGTH_MARK)
        if not mark:
            return
        self._beginning = beginning
        self._token_bytes = token_bytes
        self._middle = middle
        self._end = end + _HEAD_END

    def split(self, data: bytes) -> tuple[bytes, memoryview] | None:
        """The body and the key, if `data` is one whole request with this head."""
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
        return body, memoryview(data)[begin:behind]


class Found:
    """A head that was recognised in what came."""

    __slots__ = ("body", "known", "repeated", "token_mac")

    def __init__(self, known: KnownHead, body: bytes, token_mac: bytes, *, repeated: bool) -> None:
        self.known = known
        self.body = body
        self.token_mac = token_mac
        self.repeated = repeated
        """It was the same to the byte before, and not only of the same shape."""


class KnownHeads:
    """The heads one worker knows. `token_mac` makes the MAC by which verified keys are recalled."""

    def __init__(self, token_mac: Callable[[Buffer], bytes]) -> None:
        self._token_mac = token_mac
        self._keyed = blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._known: dict[bytes, KnownHead] = {}
        self.shapes = Shapes()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes, likely: KnownHead | None = None) -> Found | None:
        """What `data` is, if it is one whole request whose head is known or has a known shape; `likely` is
        the head of the one before it.
        """
        if likely is not None:
            split = likely.split(data)
            if split is not None:
                return Found(likely, split[0], self._token_mac(split[1]), repeated=True)
        apart = _take_apart(data)
        if apart is None:
            return None
        constant, body, token = apart
        known = self._known.get(self._mac(constant))
        if known is not None:
            return Found(known, body, self._token_mac(token), repeated=True)
        request = self.shapes.read(constant)
        if request is None:
            return None
        return Found(KnownHead(request), body, self._token_mac(token), repeated=False)

    def remember(self, data: bytes, request: APIRequest) -> None:
        """Keep what `data` meant, when it means the same each time: a request that was admitted."""
        if not _is_plain(request):
            return
        apart = _take_apart(data)
        # Of two keys, or of what looks like one elsewhere, the whole way must judge each time.
        if apart is None or ANY_KEY in apart[0] or len(apart[0]) > HEAD_BYTES_MAX:
            return
        self.shapes.learn(apart[0], request)
        self._keep(apart[0], request, len(apart[2]))

    def keep(self, data: bytes, found: Found) -> None:
        """Keep the head that was found in `data` by its shape, to know it the next time."""
        apart = _take_apart(data)
        if apart is not None and len(apart[0]) <= HEAD_BYTES_MAX:
            self._keep(apart[0], found.known.request, len(apart[2]))

    def _keep(self, constant: bytes, request: APIRequest, token_bytes: int) -> None:
        if len(self._known) >= HEADS_MAX:
            del self._known[next(iter(self._known))]
        known = self._known[self._mac(constant)] = KnownHead(request.without_body())
        if _tells_nothing(constant, request):
            known.make_comparable(constant, token_bytes)

    def _mac(self, constant: bytes) -> bytes:
        # A copy of one that has taken in the key: the key's own block is not worked through each time.
        keyed = self._keyed.copy()
        keyed.update(constant)
        return keyed.digest()


def _take_apart(data: bytes) -> tuple[bytes, bytes, memoryview] | None:
    """The head with marks for its key and the digits of its length, the body, and the key; None when `data`
    is not one whole request.
    """
    end = data.find(_HEAD_END)
    begin = data.find(_KEY_BEGINNING, 0, end) + 1
    if end < 0 or not begin:
        return None
    behind = data.find(b"\r\n", begin)
    token = memoryview(data)[begin:behind]
    for name in _LENGTH_NAMES:
        at = data.find(name, 0, end)
        if at >= 0:
            break
    else:
        # No body, then: a longer read is something else.
        return (data[:begin] + KEY_MARK + data[behind:end], b"", token) if end + 4 == len(data) else None
    at += len(name)
    after = data.find(b"\r\n", at, end + 2)
    body = data[end + 4 :]
    # As every client writes it, and nothing that only amounts to the same: no sign, no zeros before it.
    if data[at:after] != b"%d" % len(body):
        return None
    if begin < at:
        constant = data[:begin] + KEY_MARK + data[behind:at] + LENGTH_MARK + data[after:end]
    else:
        constant = data[:at] + LENGTH_MARK + data[after:begin] + KEY_MARK + data[behind:end]
    return constant, body, token


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
        # Who knows it sends it on an idle connection, and once more on a new one when that was dead.
        and request.repeatable
    )


def _tells_nothing(constant: bytes, request: APIRequest) -> bool:
    """Whether the head, but for its key, may be kept as it is."""
    for line in constant.split(b"\r\n")[1:]:
        if line in request.lines or line.partition(b":")[0].lower() in _HARMLESS:
            continue
        if not line.endswith(KEY_MARK):
            return False
    return True
