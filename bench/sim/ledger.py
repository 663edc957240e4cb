"""The ledger: what the simulated provider was asked, by whom, what it said and when the other side left.

It is the ground truth a test compares a gateway's records with. Strategy: one slotted object per request in a
ring, filled by plain attribute writes while the request is served, and turned into JSON only when somebody
asks, so that it costs a microsecond per request. Bounds: the latest 20,000 entries; request headers are kept
for the latest 1,000.
"""

import secrets
import time
from collections import deque
from typing import Any

ENTRIES_MAX = 20_000
"""Some minutes of load; about 20 MB of entries when the ring is full."""
ENTRIES_WITH_HEADERS_MAX = 1_000
"""Headers weigh more than the rest of an entry, and only tests of single calls look at them."""


class Entry:
    """One request given a request id, from its head to the end of its answer."""

    __slots__ = (
        "body_bytes",
        "body_sha256",
        "bytes_sent",
        "client_closed_at",
        "completed",
        "connection_id",
        "credential",
        "credential_header",
        "dialect",
        "ended_at",
        "events_sent",
        "first_byte_at",
        "headers",
        "leaks",
        "method",
        "model",
        "path",
        "refused",
        "request_id",
        "response_sha256",
        "seq",
        "started_at",
        "status",
        "streamed",
        "tokens_sent",
        "usage",
    )

    def __init__(self, request_id: str, seq: int, dialect: str, started_at: float) -> None:
        self.request_id = request_id
        self.seq = seq
        self.dialect = dialect
        self.started_at = started_at
        self.method = ""
        self.path = ""
        self.model: str | None = None
        self.credential = ""
        self.credential_header: str | None = None
        self.refused: str | None = None
        self.leaks: tuple[str, ...] = ()
        self.streamed = False
        self.status = 0
        self.events_sent = 0
        self.bytes_sent = 0
        self.tokens_sent = 0
        self.body_bytes = 0
        self.body_sha256: str | None = None
        self.response_sha256: str | None = None
        self.usage: dict[str, Any] | None = None
        self.completed = False
        self.first_byte_at: float | None = None
        self.ended_at: float | None = None
        self.client_closed_at: float | None = None
        self.connection_id = 0
        self.headers: list[tuple[bytes, bytes]] | None = None

    def document(self, *, with_headers: bool = False) -> dict[str, Any]:
        """The entry as the JSON object that `GET /_sim/ledger` gives."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "headers"}
        fields["tokens"] = token_classes(self.usage)
        if with_headers:
            fields["headers"] = (
                None
                if self.headers is None
                else [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers]
            )
        return fields


class Ledger:
    """A ring of entries, and the maker of request ids."""

    def __init__(self, *, enabled: bool = True, entries_max: int = ENTRIES_MAX) -> None:
        self.enabled = enabled
        self._entries: deque[Entry] = deque(maxlen=entries_max)
        self._with_headers: deque[Entry] = deque()
        self._seq = 0
        # A new prefix per process, so that ids of two simulators in one test database never meet.
        self._run = secrets.token_hex(4)

    def open(self, dialect: str) -> Entry:
        """A new entry with a request id in the dialect's form; in the ring from now on."""
        self._seq = seq = self._seq + 1
        if dialect == "anthropic":
            request_id = f"req_011C{self._run}{seq:012d}"
        else:
            request_id = f"req_{self._run}{seq:024x}"
        entry = Entry(request_id, seq, dialect, time.time())
        if self.enabled:
            self._entries.append(entry)
        return entry

    def keep_headers(self, entry: Entry, headers: list[tuple[bytes, bytes]]) -> None:
        """Remember the request's headers, forgetting those of the oldest entry that has some."""
        if not self.enabled:
            return
        entry.headers = headers
        kept = self._with_headers
        kept.append(entry)
        if len(kept) > ENTRIES_WITH_HEADERS_MAX:
            kept.popleft().headers = None

    def clear(self) -> None:
        """Forget all entries; sequence numbers and request ids go on."""
        self._entries.clear()
        self._with_headers.clear()

    def document(
        self,
        *,
        after: int = 0,
        limit: int | None = None,
        request_id: str | None = None,
        with_headers: bool = False,
    ) -> dict[str, Any]:
        """Entries with `seq > after`, oldest first, at most `limit`; or the one with `request_id`, headers
        included."""
        if request_id is not None:
            found = [entry for entry in self._entries if entry.request_id == request_id]
            with_headers = True
        else:
            found = [entry for entry in self._entries if entry.seq > after][:limit]
        return {
            "entries": [entry.document(with_headers=with_headers) for entry in found],
            "last_seq": self._seq,
            "entries_max": self._entries.maxlen,
        }


def token_classes(usage: dict[str, Any] | None) -> dict[str, int] | None:
    """The usage of any of the APIs as disjoint classes, named as in Karta's usage records; None without
    usage.

    Input excludes cache reads and writes; reasoning is a part of output, kept for information.
    """
    if usage is None:
        return None
    if "cache_creation" in usage or "cache_read_input_tokens" in usage:
        return _anthropic_classes(usage)
    prompt = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    read = prompt.get("cached_tokens", 0)
    written = prompt.get("cache_write_tokens", 0)
    return {
        "input_tokens": usage.get("prompt_tokens", usage.get("input_tokens", 0)) - read - written,
        "output_tokens": usage.get("completion_tokens", usage.get("output_tokens", 0)),
        "cache_read_tokens": read,
        "cache_write_5m_tokens": written,
        "cache_write_1h_tokens": 0,
        "reasoning_tokens": completion.get("reasoning_tokens", 0),
        "server_tool_calls": 0,
    }


def _anthropic_classes(usage: dict[str, Any]) -> dict[str, int]:
    written = usage.get("cache_creation") or {}
    return {
        "input_tokens": usage.get("input_tokens", 0),
        "output_tokens": usage.get("output_tokens", 0),
        "cache_read_tokens": usage.get("cache_read_input_tokens") or 0,
        "cache_write_5m_tokens": written.get("ephemeral_5m_input_tokens", 0),
        "cache_write_1h_tokens": written.get("ephemeral_1h_input_tokens", 0),
        "reasoning_tokens": (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0),
        "server_tool_calls": sum((usage.get("server_tool_use") or {}).values()),
    }
