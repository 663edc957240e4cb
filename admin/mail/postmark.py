"""Postmark's API, as far as letters need it: send one, send many, and find what was sent.

Every message carries its id of the outbox as metadata, so that one of which nobody knows whether it was taken
can be asked for. What a call came to is one of these:

    taken        Postmark has the message
    refused      it does not take this one: `Refused`, for each message by itself, and whether that lasts
    not taken    it took none of the call: `NotTaken`, with how long to wait
    unknown      the call broke off, or Postmark failed in the middle: `Unknown`

Bounds: so long for a call, so many bytes of an answer. No proxy of the environment, no redirect: the token
goes to the one host that was named."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import httpx
import msgspec
import trio
from pydantic import SecretStr

from admin.mail.rendering import Mail

SEND_SECONDS_MAX = 30.0
FIND_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 2 * 1024 * 1024
WAIT_SECONDS_MAX = 3600
METADATA = "outbox"
INVALID_CODE, INACTIVE_CODE = 300, 406
LASTING_CODES = {
    INVALID_CODE: "Postmark takes no such address",
    INACTIVE_CODE: "Postmark has the address as inactive: it bounced, or its reader complained",
}
"""Postmark's ErrorCodes that are about one message, and stay. All others are about the account, the server or
the sender: messages wait until that is mended."""
_MALFORMED_CODES = {INVALID_CODE, 402, 403, 409, 410}
_UNKNOWN_STATUSES = {408, 500, 502, 504}
"""By the documentation a message is mostly lost then. Mostly."""
_T = TypeVar("_T")


class Outgoing(NamedTuple):
    """A letter as it is handed over."""

    message_id: UUID
    stream: str
    kind: str
    mail: Mail


class Taken(NamedTuple):
    postmark_id: UUID | None


class Refused(NamedTuple):
    code: int
    reason: str

    @property
    def lasts(self) -> bool:
        return self.code in LASTING_CODES


class NotTaken(Exception):
    """None of the call's messages was taken; nothing is wrong with them."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class Unknown(Exception):
    """Nobody knows what was taken."""


class Rejected(Exception):
    """The call as such was refused: something in one of its messages is not as Postmark wants it."""


class _Verdict(msgspec.Struct, rename="pascal"):
    error_code: int
    message: str = ""
    message_id: str = msgspec.field(default="", name="MessageID")


class _Found(msgspec.Struct, rename="pascal"):
    message_id: str = msgspec.field(name="MessageID")
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class _Page(msgspec.Struct, rename="pascal"):
    messages: list[_Found]


class Postmark:
    """One server of Postmark. Made by `open_postmark`."""

    def __init__(self, client: httpx.AsyncClient, sender: str) -> None:
        self._client = client
        self._sender = sender

    async def send(self, messages: Sequence[Outgoing]) -> list[Taken | Refused]:
        """What came of each, in their order. Raises NotTaken, Unknown or Rejected, which are of all."""
        bodies = [self._body(message) for message in messages]
        path, body = ("/email", bodies[0]) if len(bodies) == 1 else ("/email/batch", bodies)
        status, headers, answer = await self._call("POST", path, SEND_SECONDS_MAX, json=body)
        if status == 200:
            verdicts = _decode(answer, list[_Verdict]) if len(bodies) > 1 else [_decode(answer, _Verdict)]
            if len(verdicts) != len(messages):
                raise Unknown("an answer of another length")
            return [_judge(verdict) for verdict in verdicts]
        return [self._refuse(status, headers, answer, alone=len(bodies) == 1)]

    async def find(self, message_id: UUID, stream: str) -> Taken | None:
        """Whether Postmark has a message of the outbox. Raises NotTaken or Unknown when it does not say."""
        wanted = str(message_id)
        query = {"count": "1", "offset": "0", f"metadata_{METADATA}": wanted, "messagestream": stream}
        status, headers, answer = await self._call(
            "GET", "/messages/outbound", FIND_SECONDS_MAX, params=query
        )
        if status != 200:
            raise NotTaken(f"the search was answered {status}", _retry_after(headers))
        for found in _decode(answer, _Page).messages:
            if found.metadata.get(METADATA) == wanted:
                return Taken(_to_uuid(found.message_id))
        return None

    def _body(self, message: Outgoing) -> dict[str, Any]:
        return {
            "From": self._sender,
            "To": message.mail.recipient,
            "Subject": message.mail.subject,
            "TextBody": message.mail.text,
            "HtmlBody": message.mail.html,
            "MessageStream": message.stream,
            "Tag": message.kind,
            "Metadata": {METADATA: str(message.message_id)},
            "TrackOpens": False,
            "TrackLinks": "None",
        }

    def _refuse(self, status: int, headers: httpx.Headers, answer: bytes, *, alone: bool) -> Refused:
        if status == 422:
            verdict = _decode(answer, _Verdict)
            if alone and verdict.error_code in LASTING_CODES:
                return _refused(verdict)
            if not alone and verdict.error_code in _MALFORMED_CODES:
                raise Rejected(f"ErrorCode {verdict.error_code}")
            raise NotTaken(f"ErrorCode {verdict.error_code}: {verdict.message[:200]}")
        if status in _UNKNOWN_STATUSES:
            raise Unknown(f"answered {status}")
        raise NotTaken(f"answered {status}", _retry_after(headers))

    async def _call(
        self, method: str, path: str, seconds: float, **parts: Any
    ) -> tuple[int, httpx.Headers, bytes]:
        try:
            with trio.fail_after(seconds):
                async with self._client.stream(method, path, **parts) as response:
                    return response.status_code, response.headers, await _read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise NotTaken(f"cannot be reached: {type(error).__name__}") from None
        except (httpx.HTTPError, trio.TooSlowError, OSError, ssl.SSLError) as error:
            raise Unknown(type(error).__name__) from None


@asynccontextmanager
async def open_postmark(url: str, token: SecretStr, sender: str) -> AsyncIterator[Postmark]:
    """A client of its own connections, closed at the end."""
    headers = {"X-Postmark-Server-Token": token.get_secret_value(), "Accept": "application/json"}
    async with httpx.AsyncClient(
        base_url=url,
        headers=headers,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(SEND_SECONDS_MAX),
        limits=httpx.Limits(max_connections=4, keepalive_expiry=30),
    ) as client:
        yield Postmark(client, sender)


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > ANSWER_BYTES_MAX:
            raise Unknown("an answer without end")
    return bytes(content)


def _decode(answer: bytes, wanted: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unknown("an answer that is none of Postmark's") from None


def _judge(verdict: _Verdict) -> Taken | Refused:
    if verdict.error_code == 0:
        return Taken(_to_uuid(verdict.message_id))
    return _refused(verdict)


def _refused(verdict: _Verdict) -> Refused:
    known = LASTING_CODES.get(verdict.error_code)
    return Refused(verdict.error_code, known or f"ErrorCode {verdict.error_code}: {verdict.message[:200]}")


def _retry_after(headers: httpx.Headers) -> float | None:
    given = headers.get("Retry-After", "")
    return float(min(int(given), WAIT_SECONDS_MAX)) if given.isascii() and given.isdigit() else None


def _to_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
