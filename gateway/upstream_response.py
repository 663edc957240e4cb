"""An answer whose head is complete: what `forward` and `exchange` pass on."""

from __future__ import annotations

from gateway.authorize import Grant
from gateway.dial import Upstream
from gateway.response_head import ClientHead
from gateway.response_reader import UpstreamBroken


class NothingReceived(UpstreamBroken):
    """The connection ended before a byte of an answer: on a reused one, the provider had simply closed it."""

    def __init__(self) -> None:
        super().__init__("it closed the connection without an answer")


class UpstreamResponse:
    """An answer whose head is complete. `start` is what of its body came along, still framed."""

    __slots__ = ("grant", "head", "start", "upstream")

    def __init__(self, grant: Grant, upstream: Upstream, raw: bytes) -> None:
        """`raw` is all that came. Raises `UpstreamBroken`, and `Refusal` for a head that must not pass."""
        reader = upstream.reader
        at = reader.head_bytes or _end_of_head(raw, reader.interim)
        self.grant = grant
        self.upstream = upstream
        self.head = ClientHead(reader, grant.provider, hide_account=grant.hides_account)
        self.start = raw[at:]

    def release(self) -> None:
        """Head and first bytes have been rendered: an open stream has no more use for them, nor for the
        request."""
        self.start = b""
        reader = self.upstream.reader
        self.head.lines = reader.lines = []
        reader.match = None
        self.grant.request.forget()


def _end_of_head(raw: bytes, interim: int) -> int:
    at = 0
    for _ in range(interim + 1):
        # llhttp skips empty lines here; taken for the head's end, they would make a body of the head.
        if not raw.startswith(b"HTTP/", at):
            raise UpstreamBroken("its head does not begin with a status line")
        at = raw.index(b"\r\n\r\n", at) + 4
    return at
