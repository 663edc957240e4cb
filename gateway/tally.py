"""What an answer used, read from the bytes going by (sans-IO).

A `Tally` is fed the body of one answer, streamed or not, of either dialect, and knows at any moment what has
been used so far. Rules, from both APIs' own behaviour:

- Anthropic's figures in `message_delta` are running totals: each that is present overwrites, the rest stay.
  Input excludes the cache.
- OpenAI's input includes cached tokens; they are taken out here, so that token classes are disjoint for both.
- Details (reasoning, audio) are parts of output and are never added to it.
- A figure that cannot be true (negative, not a number) is ignored, and the tally is no longer complete.
- What follows `[DONE]` is not read.

Without the provider's final figures the output is estimated by counting delta events, and `complete` is
False.
"""

from __future__ import annotations

import json
import re

import msgspec

from gateway.refusal import Dialect
from gateway.sse import Splitter, Window, event_data

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_ANTHROPIC = Dialect.ANTHROPIC

# Figures above this are a fault: no request uses a billion tokens.
_TOKENS_MAX = 1_000_000_000

# A token of English is about four bytes of text.
BYTES_PER_TOKEN = 4

# In what is too large to keep whole: where a usage object may begin, and how far one is looked at. Real ones
# are under a kilobyte; a stranger's file full of the word must not cost more than a glance.
_USAGE_TRIES_MAX = 8
_USAGE_BYTES_MAX = 16 * 1024
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,200})"')


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _Details(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None


class _Usage(msgspec.Struct, gc=False):
    """The usage objects of all endpoints, laid over each other: their names do not clash."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerTools | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Inner(msgspec.Struct, gc=False):
    """`message` of message_start and `response` of response.completed."""

    model: str | None = None
    usage: _Usage | None = None


class _Answer(msgspec.Struct, gc=False):
    """An unary answer, or one streamed event."""

    type: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    message: _Inner | None = None
    response: _Inner | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)

# The ends of the types of events whose usage is the answer's last word, in all streaming endpoints. Not among
# them: message_start, whose output figure is a placeholder.
_FINAL_TYPES = ("message_delta", ".completed", ".incomplete", ".failed", ".done")


class Tally:
    """Counts one answer. `streamed` is told from the answer's content type."""

    __slots__ = (
        "_body",
        "_done",
        "_fetches",
        "_searches",
        "_splitter",
        "_wrong",
        "audio_tokens",
        "cache_read_tokens",
        "cache_write_1h_tokens",
        "cache_write_5m_tokens",
        "deltas",
        "dialect",
        "final",
        "input_tokens",
        "model",
        "output_tokens",
        "reasoning_tokens",
        "streamed",
    )

    def __init__(self, dialect: Dialect, *, streamed: bool) -> None:
        self.dialect = dialect
        self.streamed = streamed
        self._splitter = Splitter() if streamed else None
        self._body = None if streamed else Window()
        self._done = False
        self._wrong = False
        self.model: str | None = None
        self.final = False
        """The provider's own final figures have been seen."""
        self.deltas = 0
        """Events seen so far, a floor for the output tokens of a stream that was cut."""
        self.input_tokens = 0
        self.output_tokens = 0
        self.cache_read_tokens = 0
        self.cache_write_5m_tokens = 0
        self.cache_write_1h_tokens = 0
        self.reasoning_tokens = 0
        self.audio_tokens = 0
        self._searches = 0
        self._fetches = 0

    @property
    def complete(self) -> bool:
        return self.final and not self._wrong

    @property
    def server_tool_calls(self) -> int:
        return self._searches + self._fetches

    @property
    def between_events(self) -> bool:
        return self._splitter is not None and self._splitter.between_events

    def feed(self, piece: bytes) -> None:
        if self._splitter is None:
            assert self._body is not None
            self._body.add(piece)
            return
        block = self._splitter.feed(piece)
        if self._splitter.oversized:
            self._read_oversized()
        if block and not self._done:
            self._read_block(block)

    def finish(self) -> None:
        """The body ended, cleanly or not."""
        if self._splitter is not None:
            block = self._splitter.finish()
            self._read_oversized()
            if block and not self._done:
                self._read_block(block)
        elif self._body is not None:
            if self._body.overflowed:
                self._read_window(self._body)
            elif whole := self._body.whole():
                self._read(whole, unary=True)
            self._body = None

    def _read_block(self, block: bytes) -> None:
        """Most blocks hold no usage, and one search tells; only then are the events taken apart."""
        self.deltas += block.count(b"\n\n")
        if self.model is not None and not _has_usage(block) and b"[DONE]" not in block:
            return
        for event in block.split(b"\n\n"):
            data = event_data(event)
            if data.startswith(b"[DONE]"):
                self._done = True
                return
            if data and (self.model is None or _has_usage(data)):
                self._read(data, unary=False)

    def _read_oversized(self) -> None:
        assert self._splitter is not None
        windows, self._splitter.oversized = self._splitter.oversized, []
        for window in windows:
            self.deltas += 1
            # Anthropic's events with usage are small; a large one is content, whatever it says.
            if not self._done and self.dialect is not _ANTHROPIC:
                self._read_window(window)

    def _read_window(self, window: Window) -> None:
        """Of something too large the ends are read: both APIs put the usage last, the model first or last."""
        tail = window.tail()
        if self.model is None:
            found = _MODEL.findall(window.head)[:1] or _MODEL.findall(tail)[-1:]
            self.model = found[0].decode("utf-8", "replace") if found else None
        at = len(tail)
        for _ in range(_USAGE_TRIES_MAX):
            at = tail.rfind(b'"usage"', 0, at)
            if at < 0:
                return
            usage = _usage_at(tail[at + 7 : at + 7 + _USAGE_BYTES_MAX])
            if usage is not None:
                self._merge(usage)
                self.final = True
                return

    def _read(self, data: bytes, *, unary: bool) -> None:
        try:
            answer = _answer_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if _has_usage(data):
                self._wrong = True
            return
        inner = answer.message or answer.response
        if inner is not None:
            self.model = inner.model or self.model
            if inner.usage is not None:
                self._merge(inner.usage)
        if self.model is None and answer.model is not None:
            self.model = answer.model
        if answer.usage is not None:
            self._merge(answer.usage)
        if unary or answer.type is None or answer.type.endswith(_FINAL_TYPES):
            told = answer.usage is not None or (inner is not None and inner.usage is not None)
            self.final = self.final or told

    def _merge(self, usage: _Usage) -> None:
        """Lay newer figures over older ones."""
        if self.dialect is _ANTHROPIC:
            self._merge_anthropic(usage)
        else:
            self._merge_openai(usage)

    def _merge_anthropic(self, usage: _Usage) -> None:
        self.input_tokens = self._figure(usage.input_tokens, self.input_tokens)
        self.output_tokens = self._figure(usage.output_tokens, self.output_tokens)
        self.cache_read_tokens = self._figure(usage.cache_read_input_tokens, self.cache_read_tokens)
        split = usage.cache_creation
        if split is not None:
            self.cache_write_1h_tokens = self._figure(
                split.ephemeral_1h_input_tokens, self.cache_write_1h_tokens
            )
            self.cache_write_5m_tokens = self._figure(
                split.ephemeral_5m_input_tokens, self.cache_write_5m_tokens
            )
        total = self._figure(usage.cache_creation_input_tokens, -1)
        if total >= 0:
            # It may grow after the split was told (only message_start has it): the growth is the cheaper
            # class.
            self.cache_write_5m_tokens = max(0, total - self.cache_write_1h_tokens)
        if usage.output_tokens_details is not None:
            self.reasoning_tokens = self._figure(
                usage.output_tokens_details.thinking_tokens, self.reasoning_tokens
            )
        if (tools := usage.server_tool_use) is not None:
            self._searches = self._figure(tools.web_search_requests, self._searches)
            self._fetches = self._figure(tools.web_fetch_requests, self._fetches)

    def _merge_openai(self, usage: _Usage) -> None:
        inputs = usage.input_tokens_details or usage.prompt_tokens_details or _NO_DETAILS
        outputs = usage.output_tokens_details or usage.completion_tokens_details or _NO_DETAILS
        asked = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
        answered = usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens
        total = self._figure(asked, -1)
        if total >= 0:
            self.cache_read_tokens = min(total, self._figure(inputs.cached_tokens, 0))
            total -= self.cache_read_tokens
            self.cache_write_5m_tokens = min(total, self._figure(inputs.cache_write_tokens, 0))
            self.input_tokens = total - self.cache_write_5m_tokens
        self.output_tokens = self._figure(answered, self.output_tokens)
        self.reasoning_tokens = self._figure(outputs.reasoning_tokens, self.reasoning_tokens)
        self.audio_tokens = self._figure(outputs.audio_tokens, self.audio_tokens)

    def _figure(self, value: int | None, otherwise: int) -> int:
        if value is None:
            return otherwise
        if not 0 <= value <= _TOKENS_MAX:
            self._wrong = True
            return otherwise
        return value

    def estimate(self, request_bytes: int) -> None:
        """Fill in what the provider did not get to say: the answer was cut before its final figures."""
        if not self.input_tokens and not self.cache_read_tokens:
            self.input_tokens = request_bytes // BYTES_PER_TOKEN
        if self.streamed:
            self.output_tokens = max(self.output_tokens, self.deltas)


_NO_DETAILS = _Details()
_NO_USAGE = _Usage()


def _usage_at(data: bytes) -> _Usage | None:
    """The usage object that `data` begins with, after a colon; None for anything else or without figures."""
    text = data.decode("utf-8", "replace").lstrip(" \t\r\n:")
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
        usage = msgspec.convert(found, _Usage)
    except (ValueError, RecursionError):
        return None
    return usage if usage != _NO_USAGE else None


def _has_usage(data: bytes) -> bool:
    """True when a `usage` key with an object stands in `data` (quotes in text are escaped)."""
    at = data.find(b'"usage"')
    while at >= 0:
        rest = data[at + 7 : at + 16].lstrip(b" \t\n:")
        # "d": the object stands on a `data:` line of its own.
        if rest.startswith((b"{", b"d")) or not rest:
            return True
        at = data.find(b'"usage"', at + 7)
    return False
