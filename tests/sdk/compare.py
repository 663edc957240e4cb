"""One call, made on both sides, and what must be equal: its result, the answer's status and headers, and the
request as the provider got it.

What may differ is written here and nowhere else. In the answer: `date`, the provider's request id (another
one each time), `x-karta-request-id`, and what Karta drops or owns (`DROPPED`). In the request: `host`, the
credential, `accept-encoding` (Karta asks for `identity`, see docs/decisions), the framing of the body (a
short one that came in chunks goes up with a length), and what one hop answers itself, as `expect`.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import httpx2
import msgspec

from gateway import include_usage
from tests.sdk.plain import plain
from tests.sdk.servers import PROVIDER_KEYS, Provider

Call = Callable[["Side"], Any]

DROPPED = {"server", "set-cookie", "alt-svc", "strict-transport-security", "connection"}
"""Response headers which the provider sends (`cloudflare`, `close`) and the client does not get."""
_VARYING = {"date", "request-id", "x-request-id", "x-karta-request-id"}
_HOP = {"host", "connection", "accept-encoding", "content-length", "transfer-encoding", "expect", "upgrade"}
_HOP |= {"http2-settings", "trailer", "x-trailer"}
_CREDENTIALS = {"authorization", "x-api-key"}
_REQUEST_ID = re.compile(r"\breq_[0-9A-Za-z]+")
_SETTLE_SECONDS_MAX = 10.0
_COMPARED = (
    "method",
    "path",
    "dialect",
    "model",
    "credential_header",
    "refused",
    "leaks",
    "streamed",
    "status",
    "body_bytes",
    "body_sha256",
    "response_sha256",
)
"""Not what is written last (`completed`, `usage`, counts): OpenAI's SDK hangs up at `[DONE]`, before the end
of the framing."""


class Answer(msgspec.Struct):
    """One HTTP answer as the SDK's own HTTP client saw it."""

    status: int
    reason: str
    headers: list[tuple[str, str]]


class Observation(msgspec.Struct):
    """What one side showed. `entries` are the ledger's, `answers` one each HTTP answer."""

    result: Any
    answers: list[Answer]
    entries: list[dict[str, Any]]


class Side:
    """One of the two ways to the provider. `answers` are those since the current call began."""

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name = name
        self.url = url
        self.key = key
        self.answers: list[Answer] = []
        self.closers: list[Callable[[], None]] = []
        self.clients: dict[Any, Any] = {}
        """SDK clients made so far (by `clients`), kept so that their connections are reused."""

    def record(self, response: httpx2.Response) -> None:
        """An event hook of the HTTP clients."""
        pairs = [(name.lower(), value) for name, value in response.headers.multi_items()]
        self.answers.append(Answer(response.status_code, response.reason_phrase, pairs))

    async def record_async(self, response: httpx2.Response) -> None:
        self.record(response)


class Sides:
    """Both, and the provider behind them."""

    def __init__(self, direct: Side, karta: Side, provider: Provider) -> None:
        self.direct = direct
        self.karta = karta
        self.provider = provider

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for side in (self.direct, self.karta):
            for close in side.closers:
                close()

    def same(self, call: Call, *, requests: int | None = 1) -> Observation:
        """Make `call` on both sides; everything must be equal. Returns what the direct one showed.

        `requests` is how many HTTP requests it is expected to make (None: any number but none).
        """
        direct = self.observe(self.direct, call)
        karta = self.observe(self.karta, call)
        _assert_same(karta.result, direct.result)
        _assert_same(_answers(karta), _answers(direct))
        _assert_same([_entry(one) for one in karta.entries], [_entry(one) for one in direct.entries])
        assert len(direct.entries) == requests if requests is not None else direct.entries
        self._check_secrets(karta)
        return direct

    def observe(self, side: Side, call: Call) -> Observation:
        """One side's call; an exception is a result."""
        self.provider.reset()
        after = self.provider.last_seq()
        side.answers = []
        with _repeating_boundaries():
            try:
                result = plain(call(side))
            except Exception as error:
                if not _is_sdk_error(error):
                    raise
                result = plain(error)
        return Observation(_normalised(result, side), side.answers, self._settled(after))

    def _settled(self, after: int) -> list[dict[str, Any]]:
        """The ledger's entries once the provider is done with all of them."""
        deadline = time.monotonic() + _SETTLE_SECONDS_MAX
        while True:
            entries = self.provider.entries(after)
            if all(entry["ended_at"] for entry in entries):
                return entries
            assert time.monotonic() < deadline, f"the provider is still busy: {entries}"

    def _check_secrets(self, seen: Observation) -> None:
        """The provider saw its own key only, and the client saw none."""
        for entry in seen.entries:
            assert entry["credential"] in PROVIDER_KEYS[1:]
            assert self.karta.key not in repr(entry)
            assert entry["refused"] is None
            assert not entry["leaks"]
        shown = repr((seen.result, seen.answers))
        assert not [key for key in PROVIDER_KEYS if key in shown]


def _assert_same(karta: Any, direct: Any) -> None:
    """Equality that shows the first difference of long lists, instead of both lists."""
    if karta != direct and isinstance(karta, list) and isinstance(direct, list):
        for one, other in zip(karta, direct, strict=False):
            assert one == other
    assert karta == direct


@contextlib.contextmanager
def _repeating_boundaries() -> Iterator[None]:
    """Multipart bodies get the same boundary each time, or they could not be compared byte for byte."""
    names = vars(httpx2._multipart)
    real = names["os"]
    names["os"] = types.SimpleNamespace(**{**vars(os), "urandom": bytes})
    try:
        yield
    finally:
        names["os"] = real


def _is_sdk_error(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in {"anthropic", "openai", "httpx", "httpx2", "pydantic"}


def _answers(seen: Observation) -> list[Any]:
    return [(one.status, one.reason, _comparable_headers(one.headers)) for one in seen.answers]


def _comparable_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Sorted by name, since an order among different names means nothing; ids are only told to be there."""
    kept = [
        (name, "…" if name in _VARYING else value)
        for name, value in headers
        if name not in DROPPED and name != "x-karta-request-id"
    ]
    return sorted(kept, key=lambda field: field[0])


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    compared = {name: entry[name] for name in _COMPARED}
    if entry["dialect"] == "anthropic" and (entry["status"] >= 300 or entry["streamed"]):
        # An error's body holds the provider's request id, and so is another one each time.
        del compared["response_sha256"]
    if entry["streamed"] and entry["path"].removeprefix("/openai") in include_usage.PATHS:
        # Karta asks for usage where the client did not, and takes it out again (docs/decisions/0031).
        for name in ("body_bytes", "body_sha256", "response_sha256"):
            del compared[name]
    assert entry["headers"] is not None
    compared["headers"] = [
        [name, value] for name, value in entry["headers"] if name not in _HOP | _CREDENTIALS
    ]
    return compared


def _normalised(value: Any, side: Side) -> Any:
    """Without what differs by nature: request ids, and the origin that was called."""
    if isinstance(value, str):
        return _REQUEST_ID.sub("req_…", value.replace(side.url, "{origin}"))
    if isinstance(value, dict):
        return {_normalised(name, side): _normalised(one, side) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_normalised(one, side) for one in value]
    return value
