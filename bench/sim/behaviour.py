"""The grammar by which a request steers the simulated provider.

A behaviour is `key=value` pairs joined by commas; a key alone means `key=1`. It comes from the model name
(`sim:tokens=50,pace_ms=20`) and from the header `x-sim-behaviour`, the header winning pair by pair, so that
any other model name works normally. The package docstring explains every key; this file holds their types and
bounds. Parsing is pure and cached, because a load generator repeats one model name for ever.
"""

from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MODEL_PREFIX = "sim:"
BEHAVIOUR_CHARACTERS_MAX = 2_048
"""A behaviour is a line a person wrote; anything longer is a mistake, and every distinct one is cached."""
PARSED_BEHAVIOURS_MAX = 1_024

Count = Annotated[int, Meta(ge=0, le=10_000_000)]
Bytes = Annotated[int, Meta(ge=0, le=4_294_967_296)]
"""Up to 4 GiB, made piece by piece as the reader takes it."""
EventBytes = Annotated[int, Meta(ge=0, le=268_435_456)]
"""Up to 256 MiB, because a single event is held in memory whole."""
Milliseconds = Annotated[float, Meta(ge=0, le=3_600_000)]
Status = Annotated[int, Meta(ge=200, le=599)]

MALFORMED = Literal[
    "head",
    "version",
    "status",
    "header",
    "nul",
    "length",
    "lengths",
    "both",
    "chunk",
    "chunk_size",
    "json",
    "utf8",
]


class BehaviourError(ValueError):
    """The behaviour asked for cannot be read; the message names the pair and the mend."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One parsed behaviour; the defaults are a healthy provider with a short answer."""

    # What is answered.
    seed: int = 0
    tokens: Count = 12
    chunk_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 1
    thinking: Count = 0
    tool: bool = False
    tool_calls: Annotated[int, Meta(ge=1, le=128)] = 1
    refusal: bool = False
    stop: str | None = None
    web_searches: Count = 0
    polls: Count = 0
    bytes: Bytes = 0
    event_bytes: EventBytes = 0

    # What is reported.
    usage: Literal["full", "none", "twice"] = "full"
    input_tokens: Count | None = None
    raise_input: Count = 0
    cache_read: Count = 0
    cache_write_5m: Count = 0
    cache_write_1h: Count = 0
    service_tier: str | None = None

    # When.
    headers_ms: Milliseconds = 0
    ttft_ms: Milliseconds = 0
    pace_ms: Milliseconds = 0
    flush: bool = False

    # How an event stream is written.
    newline: Literal["lf", "crlf", "cr"] = "lf"
    pad: bool = True
    pings: Count = 0
    comments: bool = False
    future_event: bool = False
    no_blank_end: bool = False

    # How HTTP is written.
    framing: Literal["auto", "chunked", "length", "close"] = "auto"
    encoding: Literal["identity", "gzip", "deflate"] = "identity"
    split: Count = 0
    split_ms: Milliseconds = 0
    close: bool = False
    close_silently: bool = False
    interim: Literal[0, 100, 102, 103] = 0
    cloudflare: bool = False
    header_bytes: Annotated[int, Meta(ge=0, le=1_048_576)] = 0
    header_count: Annotated[int, Meta(ge=0, le=10_000)] = 0

    # Errors in the dialect.
    error: Annotated[int, Meta(ge=300, le=599)] | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_after: Count | None = None
    times: Count = 0
    retry_after: str | None = None
    retry_after_ms: str | None = None
    should_retry: bool | None = None
    redirect: Literal[0, 301, 302, 303, 307, 308] = 0
    location: str = "/v1/elsewhere"
    status: Status | None = None

    # Faults.
    die: Literal["rst", "fin", "clean"] = "rst"
    die_at: Literal["never", "headers", "request", "head"] = "never"
    die_after: Bytes | None = None
    hang: Literal["never", "head"] = "never"
    hang_after: Bytes | None = None
    hang_ms: Milliseconds | None = None
    malformed: MALFORMED | None = None
    malformed_after: Count = 1
    extra_bytes: EventBytes = 0
    short_bytes: EventBytes = 0
    read: Literal["all", "stop"] = "all"
    early: bool = False


PLAIN = Behaviour()


def pairs_of(text: str) -> dict[str, str]:
    """`"tokens=5,refusal"` → `{"tokens": "5", "refusal": "1"}`; BehaviourError when it cannot be split so."""
    if len(text) > BEHAVIOUR_CHARACTERS_MAX:
        raise BehaviourError(
            f"a behaviour is at most {BEHAVIOUR_CHARACTERS_MAX} characters, this has {len(text)}"
        )
    pairs: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if key:
            pairs[key] = value if equals else "1"
        elif equals:
            raise BehaviourError(f"a behaviour pair needs a key before its equals sign: {part!r}")
    return pairs


@lru_cache(maxsize=PARSED_BEHAVIOURS_MAX)
def parse(text: str, over: str = "") -> Behaviour:
    """The behaviour that `text` (from the model name) and `over` (from the header, winning) ask for.

    Raises BehaviourError naming what cannot be read.
    """
    pairs = pairs_of(text) | pairs_of(over)
    if not pairs:
        return PLAIN
    try:
        return msgspec.convert(pairs, Behaviour, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(Behaviour.__struct_fields__)
        raise BehaviourError(
            f"cannot read the behaviour {text!r} {over!r}: {error}. Keys: {known}"
        ) from error


def of_request(model: str | None, header: bytes | None) -> Behaviour:
    """The behaviour one request asks for by its model name and its `x-sim-behaviour` header."""
    if model is not None and model.startswith(MODEL_PREFIX):
        return parse(model[len(MODEL_PREFIX) :], header.decode("latin-1") if header else "")
    if header:
        return parse("", header.decode("latin-1"))
    return PLAIN
