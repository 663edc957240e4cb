"""What a request may use at most, told from its bytes before it goes up (sans-IO).

`estimate_input` looks at the body, `worst_case` puts a price to it. The figures are for a reservation: it is
settled to the real cost afterwards, so what is too high holds back others for a moment, and what is too low
may let one request past a limit. Rules, argued in docs/decisions/0030-unknown-prices.md:

- Text: two bytes a token.
- A picture: `IMAGE_TOKENS_MAX`, however many bytes it has or wherever it lies.
- What is named but not here (files, documents, an earlier response), and what a provider's own tools may
  fetch: the model's whole context window. So too where several models may run: what each of them reads, and
  how often, nobody knows.

Strategy: a few searches of the body for the words that such parts begin with, at the speed of memory; the
contents of strings are escaped, so a quoted word in text is not taken for one. A false alarm reserves too
much, never too little.
"""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec

from gateway.body_fields import Other
from gateway.members import TooManySteps, members
from gateway.price_table import PriceTable

BYTES_PER_TOKEN_MIN: Final = 2
IMAGE_TOKENS_MAX: Final = 10_000
# Of a model whose window is not known. Most are at or below it; a larger one is in the library.
WINDOW_TOKENS_DEFAULT: Final = 200_000
# What a tool that searches may run in one request, unless the request says.
SEARCHES_MAX: Final = 10
# Hidden prompts: for tools, for structured output, for the roles of messages.
_OVERHEAD_TOKENS: Final = 1_000
# Requests whose inputs may each be as long as the window.
IN_PARTS: Final = ("/v1/completions", "/v1/embeddings")
# A body that is not longer comes to less than one picture may, by four bytes a token.
WEIGHED_BYTES_MIN: Final = 4 * (_OVERHEAD_TOKENS + IMAGE_TOKENS_MAX)
# Below it a run of base64 is text like any other.
_ENCODED_BYTES_MIN: Final = 1_024
_SAMPLES: Final = 32

# Parts that are looked at: a stranger's body full of the word must not cost more than milliseconds.
_PARTS_MAX: Final = 10_000
# More answers to one prompt are refused by every provider.
ANSWERS_MAX: Final = 128
_TYPE: Final = b'"type"'
_KINDS: Final = re.compile(
    rb'\s*+:\s*+"(?:(?P<image>image|image_url|input_image)'
    rb"|(?P<advisor>advisor_\d++)"
    rb"|(?P<window>document|file|input_file|container_upload|computer|mcp|code_interpreter|code_execution_\d++"
    rb'|tool_search\w*+|web_fetch\w*+)|(?P<search>web_search\w*+|file_search))"'
)
_STORED_PROMPT: Final = re.compile(rb'"prompt"\s*+:\s*+\{')
# A text, or the beginning of a list.
_PART: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|\[', re.DOTALL)
_ENCODED: Final = re.compile(rb"[A-Za-z0-9+/_=-]{%d,}+" % _ENCODED_BYTES_MIN)
# How base64 begins: of PNG, JPEG, GIF, WebP, BMP and TIFF; of PDF, of zipped and of older documents.
_PICTURES: Final = (b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR", b"Qk", b"SUkqA", b"TU0AK")
_DOCUMENTS: Final = (b"JVBERi", b"UEsDB", b"0M8R4")


class InputEstimate:
    """What a request's body may come to."""

    __slots__ = ("advised", "fills_window", "hour_cache", "in_parts", "searches", "tokens")

    def __init__(
        self,
        tokens: int,
        *,
        fills_window: bool = False,
        searches: int = 0,
        hour_cache: bool = False,
        advised: bool = False,
    ) -> None:
        self.tokens = tokens
        self.fills_window = fills_window
        """It names or may fetch things of any size."""
        self.searches = searches
        self.hour_cache = hour_cache
        """It chooses how long its cache is kept: writes may be of the dearer class."""
        self.advised = advised
        """Another model may be asked for its advice, which the body names."""
        self.in_parts = False
        """It is several inputs, each of which may be as long as the window."""


def estimate_input(body: bytes, *, by_reference: bool = False) -> InputEstimate:
    """An upper estimate of the input of a JSON request. `by_reference`: more than is in it is read, as its
    fields tell (`APIRequest.by_reference`, or fallbacks)."""
    images, searches, fills, advised = 0, 0, by_reference, False
    # `find`, since `in` takes its left side for a number first, and an error to learn that it is none.
    if body.find(b'"prompt"') >= 0 and _STORED_PROMPT.search(body) is not None:
        fills = True
    at = body.find(_TYPE)
    for _ in range(_PARTS_MAX):
        if at < 0:
            break
        part = _KINDS.match(body, at + len(_TYPE))
        if part is None:
            pass
        elif part.lastgroup == "image":
            images += 1
        else:
            fills = True
            searches = SEARCHES_MAX if part.lastgroup == "search" else searches
            advised = advised or part.lastgroup == "advisor"
        at = body.find(_TYPE, at + len(_TYPE))
    else:
        # Nobody has looked at the rest.
        fills = True
    size = len(body)
    # Pictures and documents sent along are told by how they begin.
    if body.find(b"base64") >= 0:
        for run in _ENCODED.finditer(body):
            if body.startswith(_PICTURES, run.start()):
                size -= run.end() - run.start()
            elif body.startswith(_DOCUMENTS, run.start()):
                fills = True
    return InputEstimate(
        tokens=_OVERHEAD_TOKENS + size // BYTES_PER_TOKEN_MIN + images * IMAGE_TOKENS_MAX,
        fills_window=fills,
        searches=searches,
        hour_cache=body.find(b'"ttl"') >= 0,
        advised=advised,
    )


def seems_encoded(body: bytes) -> bool:
    """Whether some of a long body is base64, by a look here and there: text has spaces. So text is not read
    once more, which takes as long as all else that is done with it; what is missed is a small part."""
    step = max(len(body) // _SAMPLES, 1)
    starts = range(0, len(body) - _ENCODED_BYTES_MIN, step)
    return any(body.find(b" ", at, at + _ENCODED_BYTES_MIN) < 0 for at in starts)


def prompts_and_best_of(body: bytes) -> tuple[int, int]:
    """Of a request for completions: how many prompts it has, and how many answers to each are made for the
    best of them to be given. The most that may be meant, by whoever reads it."""
    prompts = best_of = 1
    start = body.find(b"{")
    if start < 0:
        return prompts, best_of
    try:
        for name, begin, end in members(body, start):
            if name == "prompt":
                prompts = max(prompts, _parts_of(body, begin, end))
            elif name == "best_of":
                best_of = max(best_of, _count_of(body[begin:end]))
    except TooManySteps:
        return _PARTS_MAX, ANSWERS_MAX
    return prompts, best_of


def _parts_of(body: bytes, begin: int, end: int) -> int:
    """How many texts, or lists of tokens, a list holds. What is no list, or holds tokens, is one prompt."""
    at = begin
    # Its own bracket is not one of them.
    parts = -1
    while parts < _PARTS_MAX:
        part = _PART.search(body, at, end)
        if part is None:
            break
        parts += 1
        at = part.end()
    return max(1, parts)


def _count_of(number: bytes) -> int:
    """As `answers`, of what may be anything."""
    try:
        told = msgspec.json.decode(number, type=int | float | None)
    except msgspec.DecodeError:
        return ANSWERS_MAX
    return answers(told)


def answers(told: int | float | Other | None) -> int:
    """How many answers a number asks for at most; what is none may be read as any."""
    if told is None:
        return 1
    if isinstance(told, Other):
        return ANSWERS_MAX
    return max(1, math.ceil(min(told, ANSWERS_MAX)))


def estimate_upload(body_bytes: int) -> InputEstimate:
    """For a body that is not JSON: sound or pictures in a form. Two bytes a token is far above what sound
    comes to."""
    return InputEstimate(tokens=_OVERHEAD_TOKENS + body_bytes // BYTES_PER_TOKEN_MIN)


def worst_case(
    table: PriceTable,
    given: InputEstimate,
    output_tokens_max: int,
    *,
    unknown_rate: int,
    choices: int = 1,
) -> tuple[int, int]:
    """(picodollars, tokens) to reserve. `output_tokens_max` is for each of `choices` answers."""
    window = table.context_tokens or WINDOW_TOKENS_DEFAULT
    tokens_in = given.tokens
    if given.fills_window:
        tokens_in = max(window, tokens_in) if table.context_tokens is None else window
    elif table.context_tokens is not None and not given.in_parts:
        # More is refused by the provider.
        tokens_in = min(tokens_in, window)
    rates = table.rates_for(tokens_in)
    tokens_out = output_tokens_max * max(1, choices)
    if rates.input >= 0 and rates.output < 0:
        # Embeddings: nothing comes out.
        tokens_out = 0
    if not rates.by_tokens:
        return (tokens_in + tokens_out) * unknown_rate, tokens_in + tokens_out
    rate_in = rates.dearest_input
    if given.hour_cache:
        rate_in = max(rate_in, rates.cache_write_1h)
    rate_out = rates.dearest_output
    money = (
        rates.request
        + tokens_in * (rate_in if rate_in >= 0 else unknown_rate)
        + tokens_out * (rate_out if rate_out >= 0 else unknown_rate)
        + given.searches * max(rates.web_search, rates.file_search, 0)
    )
    return money, tokens_in + tokens_out
