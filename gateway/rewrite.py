"""The one change Karta makes to an answer: `results_url` of Anthropic's batch objects.

It is an absolute URL of the provider, and the SDK calls it exactly as given, key and all: left alone, the
customer's Karta key would go to the provider, past the gateway. Its origin becomes the gateway's own.
"""

from __future__ import annotations

import re

from gateway.api_request import APIRequest
from gateway.refusal import Dialect, Kind, Refusal
from gateway.response_head import ClientHead
from gateway.response_reader import ResponseReader

_BATCHES = "/v1/messages/batches"
_RESULTS_URL = re.compile(rb'("results_url"\s*:\s*")https?:(?:\\?/){2}[^/"\\]+')
_HOST = re.compile(rb"[A-Za-z0-9.\-_:\[\]]{1,255}\Z")


def needs_rewrite(request: APIRequest, reader: ResponseReader, head: ClientHead) -> bool:
    """True for answers that hold batch objects. Raises `Refusal` for one that holds them unreadably."""
    needed = (
        request.dialect is Dialect.ANTHROPIC
        and request.operation.path.startswith(_BATCHES)
        and not request.operation.path.endswith("/results")
        and b"json" in head.content_type
        and not reader.status >= 300
        and request.inbound.method != b"HEAD"
    )
    if needed and any(name.lower() == b"content-encoding" for name, _ in reader.headers):
        # Karta asks for identity. Passing on what cannot be read would pass on the URL with it.
        raise Refusal(Kind.UPSTREAM_BROKEN, "The provider compressed an answer that Karta must read.")
    return needed


def rewrite(
    body: bytes, request: APIRequest, public_url: str | None = None, *, secure: bool = False
) -> bytes:
    """`body` with each `results_url` at the gateway's origin: the configured one, else the client's.

    `secure`: the client speaks TLS with us. That it does with a proxy before us, the proxy tells.
    """
    base = public_url.rstrip("/").encode() if public_url else _own_origin(request, secure=secure)
    return _RESULTS_URL.sub(lambda match: match.group(1) + base, body)


def _own_origin(request: APIRequest, *, secure: bool) -> bytes:
    # Anybody may say so: it only keeps his own key from being sent in the clear.
    secure = secure or any(
        name.lower() == b"x-forwarded-proto" and b"https" in value.lower()
        for name, value in request.inbound.headers
    )
    scheme = b"https://" if secure else b"http://"
    return scheme + request.host if _HOST.match(request.host) else b""
