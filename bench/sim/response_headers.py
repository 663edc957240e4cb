"""Response heads as the real providers write them: request ids, rate limits, and what their edge adds.

All values but the date and the request id are constant for the life of the process, so that an answer relayed
by a gateway can be compared with a direct one header by header.
"""

import time
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus

from bench.sim.answer import Answer
from bench.sim.behaviour import Behaviour

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus} | {529: b"Overloaded"}

CLOUDFLARE: tuple[tuple[bytes, bytes], ...] = (
    (b"set-cookie", b"__cf_bm=sim.9Zk1-1795000000-1.0.1.1-secret; path=/; HttpOnly; Secure; SameSite=None"),
    (
        b"set-cookie",
        b"_cfuvid=sim.5b2-1795000000000-0.0.1.1-604800000; path=/; HttpOnly; Secure; SameSite=None",
    ),
    (b"server", b"cloudflare"),
    (b"cf-ray", b"9a0f3c5d7e1b2a4c-FRA"),
    (b"cf-cache-status", b"DYNAMIC"),
    (b"alt-svc", b'h3=":443"; ma=86400'),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-robots-tag", b"none"),
)

_STARTED = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def _block(headers: dict[str, bytes]) -> bytes:
    return b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers.items())


_ANTHROPIC = _block(
    {
        f"anthropic-ratelimit-{what}-{figure}": value
        for what, limit in (("requests", b"4000"), ("tokens", b"480000"), ("input-tokens", b"400000"))
        for figure, value in (("limit", limit), ("remaining", limit), ("reset", _STARTED))
    }
    | {
        "anthropic-ratelimit-output-tokens-limit": b"80000",
        "anthropic-ratelimit-output-tokens-remaining": b"80000",
        "anthropic-ratelimit-output-tokens-reset": _STARTED,
        "anthropic-organization-id": b"5f0c7d1e-9a2b-4c3d-8e4f-51a0c0ffee00",
    }
)
_OPENAI = _block(
    {
        "openai-version": b"2020-10-01",
        "openai-organization": b"org-simulated",
        "openai-processing-ms": b"87",
        "x-ratelimit-limit-requests": b"10000",
        "x-ratelimit-limit-tokens": b"2000000",
        "x-ratelimit-remaining-requests": b"9999",
        "x-ratelimit-remaining-tokens": b"1999975",
        "x-ratelimit-reset-requests": b"6ms",
        "x-ratelimit-reset-tokens": b"1m30s",
    }
)
_DIALECTS = {
    "anthropic": (b"request-id: ", _ANTHROPIC),
    "openai": (b"x-request-id: ", _OPENAI),
    "": (b"x-id: ", b""),
}


class DateLine:
    """The `date` header line, formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def at(self, now: float) -> bytes:
        """The line for this moment (unix seconds), with its CRLF."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._line = b"date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
        return self._line


date_line = DateLine()


def before_request_id(answer: Answer, dialect: str, framing: bytes) -> bytes:
    """The head up to where the request id goes: status line, content type, `framing` lines and extra headers.

    Together with `after_request_id` it is a head that can be prepared once and used for many requests.
    """
    behaviour = answer.behaviour
    status = behaviour.status or answer.status
    lines = [b"HTTP/1.1 %d %s\r\n" % (status, REASONS.get(status, b"Unknown"))]
    if answer.content_type:
        lines.append(b"content-type: " + answer.content_type + b"\r\n")
    lines.append(framing)
    lines.extend(name + b": " + value + b"\r\n" for name, value in (*answer.headers, *_added(behaviour)))
    lines.append(_DIALECTS[dialect][0])
    return b"".join(lines)


def after_request_id(dialect: str) -> bytes:
    """The rest of the head but its date line: it starts by ending the request id's line."""
    return b"\r\n" + _DIALECTS[dialect][1]


def head(answer: Answer, dialect: str, request_id: str, framing: bytes) -> bytes:
    """A whole response head, blank line included."""
    return b"".join(
        (
            before_request_id(answer, dialect, framing),
            request_id.encode(),
            after_request_id(dialect),
            date_line.at(time.time()),
            b"\r\n",
        )
    )


def _added(behaviour: Behaviour) -> list[tuple[bytes, bytes]]:
    """Headers which only a behaviour adds."""
    added = list(CLOUDFLARE) if behaviour.cloudflare else []
    added.extend((b"x-sim-%d" % index, b"v") for index in range(behaviour.header_count))
    if behaviour.header_bytes:
        added.append((b"x-sim-filler", b"f" * behaviour.header_bytes))
    return added
