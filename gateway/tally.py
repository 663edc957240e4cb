"""What an answer used, read from the bytes going by (sans-IO).

A `Tally` is fed the body of one answer, streamed or not, of either dialect, and knows at any moment what
has been used so far: it is a `Figures`, whose merging rules are in `usage_figures`. The rules of reading:

- Figures of `message_start` are placeholders; only certain events have the last word.
- Searches that OpenAI's models made are told from the items of the answer, as its usage does not count them.
- What cannot be decoded and yet speaks of usage makes the tally incomplete.
- What follows `[DONE]` is not read.

Without the provider's final figures the output is estimated by counting delta events, and `complete` is
False.
"""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from gateway.refusal import Dialect
from gateway.sse import Splitter, Window, event_data
from gateway.usage_figures import Figures
from gateway.usage_objects import (
    NO_OUTPUT,
    AnthropicAnswer,
    AnthropicUsage,
    Item,
    OpenAIAnswer,
    OpenAIUsage,
)

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_ANTHROPIC: Final = Dialect.ANTHROPIC

# A token of English is about four bytes of text.
BYTES_PER_TOKEN: Final = 4

# What a model puts out in a second: an estimate, and not a bound (docs/decisions/0174).
UNHEARD_TOKENS_PER_SECOND: Final = 50

# In what is too large to keep whole: where a usage object may begin, and how far one is looked at. Real ones
# are under a kilobyte; a stranger's file full of the word must not cost more than a glance.
_USAGE_TRIES_MAX: Final = 8
_USAGE_BYTES_MAX: Final = 16 * 1024
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"\\]{1,200})"')

# A tier's name is the provider's word, kept as long as real ones are.
_TIER_CHARACTERS_MAX: Final = 40

_NO_ANTHROPIC_USAGE: Final = AnthropicUsage()
_NO_OPENAI_USAGE: Final = OpenAIUsage()

_anthropic_decoder: Final = msgspec.json.Decoder(AnthropicAnswer)
_openai_decoder: Final = msgspec.json.Decoder(OpenAIAnswer)
_items_decoder: Final = msgspec.json.Decoder(list[Item])

# The ends of the types of events whose usage is the answer's last word, in all streaming endpoints. Not among
# them: message_start, whose output figure is a placeholder.
_FINAL_TYPES: Final = ("message_delta", ".completed", ".incomplete", ".failed", ".done")


class Tally(Figures):
    """Counts one answer. `streamed` is told from the answer's content type."""

    __slots__ = ("_body", "_done", "_splitter", "deltas", "dialect", "final", "streamed")

    def __init__(self, dialect: Dialect, *, streamed: bool) -> None:
        super().__init__()
        self.dialect = dialect
        self.streamed = streamed
        self._splitter = Splitter() if streamed else None
        self._body = None if streamed else Window()
        self._done = False
        self.final = False
        """The provider's own final figures have been seen."""
        self.deltas = 0
        """Events seen so far, a floor for the output tokens of a stream that was cut."""

    @property
    def complete(self) -> bool:
        return self.final and not self.wrong

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
        if self.iterations is not None:
            self.fold()

    def read_ends(self, body: Window) -> None:
        """In place of `feed`: a whole answer of which only the ends were kept."""
        self._read_window(body)
        self._body = None
        self.finish()

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
            if self._merge_at(tail[at + 7 : at + 7 + _USAGE_BYTES_MAX]):
                self.final = True
                return

    def _merge_at(self, data: bytes) -> bool:
        """Take the usage object that `data` begins with, after a colon; False for anything else."""
        text = data.decode("utf-8", "replace").lstrip(" \t\r\n:")
        try:
            found, _ = json.JSONDecoder().raw_decode(text)
            if self.dialect is _ANTHROPIC:
                of_message = msgspec.convert(found, AnthropicUsage)
                if told := of_message != _NO_ANTHROPIC_USAGE:
                    self.merge_anthropic(of_message)
            else:
                usage = msgspec.convert(found, OpenAIUsage)
                if told := usage != _NO_OPENAI_USAGE:
                    self.merge_openai(usage)
        except (ValueError, RecursionError):
            return False
        return told

    def _read(self, data: bytes, *, unary: bool) -> None:
        try:
            if self.dialect is _ANTHROPIC:
                self._take_anthropic(_anthropic_decoder.decode(data), unary)
            else:
                self._take_openai(_openai_decoder.decode(data), unary)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if _has_usage(data):
                self.wrong = True

    def _take_anthropic(self, answer: AnthropicAnswer, unary: bool) -> None:
        if answer.message is not None:
            self.model = answer.message.model or self.model
            usage = answer.message.usage
        else:
            self.model = self.model or answer.model
            usage = answer.usage
        if usage is not None:
            self.merge_anthropic(usage)
            if unary or answer.type is None or answer.type.endswith(_FINAL_TYPES):
                self.final = True

    def _take_openai(self, answer: OpenAIAnswer, unary: bool) -> None:
        inner = answer.response
        if inner is None:
            self.model = self.model or answer.model
            usage, tier, output = answer.usage, answer.service_tier, answer.output
        else:
            self.model = inner.model or self.model
            usage, tier, output = inner.usage, inner.service_tier, inner.output
        if tier is not None:
            self.service_tier = tier[:_TIER_CHARACTERS_MAX]
        if usage is not None:
            self.merge_openai(usage)
            if unary or answer.type is None or answer.type.endswith(_FINAL_TYPES):
                self.final = True
                if output is not NO_OUTPUT:
                    self._count_calls(bytes(output))

    def _count_calls(self, output: bytes) -> None:
        """The tools that the provider ran for a response, each an item of its output."""
        if b"_call" not in output:
            return
        try:
            items = _items_decoder.decode(output)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        # A search that opens a page it found, or looks through it, is not another search.
        self.web_searches = sum(
            item.type == "web_search_call" and (item.action is None or item.action.type in ("search", None))
            for item in items
        )
        self.file_searches = sum(item.type == "file_search_call" for item in items)
        self.code_runs = sum(item.type == "code_interpreter_call" for item in items)
        self.parted = self.parted or self.web_searches + self.file_searches > 0

    def estimate(self, request_bytes: int) -> None:
        """Fill in what the provider did not get to say: the answer was cut before its final figures."""
        if not self.input_tokens and not self.cache_read_tokens:
            self.input_tokens = request_bytes // BYTES_PER_TOKEN
        if self.streamed:
            self.output_tokens = max(self.output_tokens, self.deltas)

    def unheard(self, seconds: float) -> Figures:
        """What may have been used that nobody heard of, if the model was at work for `seconds`: much of what
        models put out is not shown (reasoning), or comes at the end at once."""
        used = Figures(self.model)
        used.add(self)
        used.service_tier, used.speed = self.service_tier, self.speed
        used.output_tokens = max(used.output_tokens, int(seconds * UNHEARD_TOKENS_PER_SECOND))
        return used


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
