"""Stage 5: `Grant → OpenedCredential`. The provider's key in clear, for one request and no longer.

The sealed key is opened into a `bytearray`, written into the request head (a `bytearray` too), sent, and
both are overwritten. What Karta cannot overwrite is what it never makes: no `str` or `bytes` of an
organization's key exists on this path.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final

from gateway.authorize import Grant
from gateway.provider import AuthStyle
from gateway.refusal import Kind, Refusal
from storage.sealing import MasterKeys, SealError, open_sealed, wipe

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_BEARER: Final = AuthStyle.BEARER
_CLIENT: Final = AuthStyle.CLIENT
_API_KEY: Final = AuthStyle.API_KEY


class OpenedCredential:
    """A provider key in clear. Use it as a context manager: leaving it wipes the key."""

    __slots__ = ("grant", "secret")

    def __init__(self, grant: Grant, secret: bytearray) -> None:
        self.grant = grant
        self.secret = secret

    def __enter__(self) -> OpenedCredential:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wipe(self.secret)

    def __repr__(self) -> str:
        return "OpenedCredential(…)"

    def __reduce__(self) -> str:
        raise TypeError("a provider key in clear is not copied, pickled or sent anywhere")


def decrypt(grant: Grant, master_keys: MasterKeys | None) -> OpenedCredential:
    """Open the credential the grant names. Raises `Refusal` (503) when it does not open."""
    if grant.sealed is None:
        assert grant.provider.platform_key is not None
        return OpenedCredential(grant, bytearray(grant.provider.platform_key))
    if master_keys is None:
        raise Refusal(Kind.UNAVAILABLE, "This gateway holds no master key.", retry_after=60)
    try:
        return OpenedCredential(grant, open_sealed(master_keys, grant.sealed))
    except SealError:
        raise Refusal(
            Kind.UNAVAILABLE,
            "The organization's provider key cannot be opened; set it again.",
            retry_after=60,
        ) from None


def request_head(
    opened: OpenedCredential, body_bytes: int | None, body: bytes = b"", prefix: bytes | None = None
) -> bytearray:
    """The whole head that goes to the provider, the key in it. The caller wipes it once it is sent.

    `body_bytes` is the length of a body that is known, or None for one that streams in chunks; `body` is what
    goes out in one piece with the head. `prefix` is `APIRequest.upstream_prefix`, where it is known already.
    """
    grant = opened.grant
    request = grant.request
    provider = grant.provider
    if prefix is None:
        prefix = request.upstream_prefix(provider, hide_account=grant.hides_account)
    if body_bytes is None:
        framing = b"transfer-encoding: chunked\r\n"
    elif body_bytes or request.content_length >= 0 or request.inbound.method in _USUALLY_WITH_BODY:
        framing = b"content-length: %d\r\n" % body_bytes
    else:
        framing = b""
    auth = provider.auth
    if auth is _BEARER or (auth is _CLIENT and request.bearer):
        key = b"authorization: Bearer "
    else:
        key = b"api-key: " if auth is _API_KEY else b"x-api-key: "
    # Made at its full size: a buffer that grows may move, and would leave the key behind where it was.
    return bytearray().join((prefix, framing, key, opened.secret, b"\r\n\r\n", body))


_USUALLY_WITH_BODY: Final = {b"POST", b"PUT", b"PATCH"}
