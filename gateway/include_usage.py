"""Asking for usage where the client did not: `include_usage` put into a request's bytes (sans-IO).

OpenAI's chat and completions streams say what they used only when asked to. Karta asks (this module) and
takes the additions out of the answer again (`usage_stripper`), so that the client sees what it asked for and
the meter the provider's own figures: docs/decisions/0031-include-usage.md.

Strategy: nothing is parsed and written anew, since a client's bytes are its own; what is needed is put in
between. Nearly always `stream_options` is missing, and goes first, behind the opening brace, whatever the
body's size. Only where it is there already is the body walked, by strings and brackets. What the provider
would refuse (an option of the wrong type) is left for it to refuse, and a body with too many parts to be
walked goes up as it is: its input is estimated by its bytes, which is more than any figure would say.
"""

from __future__ import annotations

import msgspec

from gateway.api_request import APIRequest
from gateway.members import SPACE, TooManySteps, members
from gateway.provider import Provider

PATHS = frozenset(("/v1/chat/completions", "/v1/completions"))

_ASKING = b'"include_usage":true'
_MEMBER = b'"stream_options":{' + _ASKING + b"}"
_OPTIONS_KEY = "stream_options"
_USAGE_KEY = "include_usage"


class _Body(msgspec.Struct, gc=False):
    stream_options: msgspec.Raw = msgspec.Raw()


class _Options(msgspec.Struct, gc=False):
    include_usage: bool | None = None


_body_decoder = msgspec.json.Decoder(_Body)
_options_decoder = msgspec.json.Decoder(_Options | None)


def add_usage_request(request: APIRequest, provider: Provider) -> None:
    """Make a stream tell what it used, where the provider knows how and the client did not ask."""
    if provider.stream_usage and request.streaming and request.operation.path in PATHS:
        asking = ask_for_usage(request.body)
        if asking is not None:
            request.body = asking
            request.usage_added = True


def ask_for_usage(body: bytes) -> bytes | None:
    """`body`, a JSON object, asking for usage; None when it need not or cannot be made to.

    None means: send it as it is, and take nothing out of the answer.
    """
    try:
        options = bytes(_body_decoder.decode(body).stream_options)
        if options and not _may_ask(options):
            return None
        start = body.find(b"{")
        if options:
            return _edited(body, start)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TooManySteps):
        return None
    rest = body[start + 1 :]
    separator = b"" if rest.lstrip(SPACE).startswith(b"}") else b","
    return b"".join((body[: start + 1], _MEMBER, separator, rest))


def _may_ask(options: bytes) -> bool:
    """True unless it asks already. Raises `msgspec.ValidationError` where the provider must judge."""
    told = _options_decoder.decode(options)
    return told is None or not told.include_usage


def _edited(body: bytes, start: int) -> bytes:
    """Every `stream_options` of the body made to ask: of two, some read the first and some the last."""
    pieces: list[bytes] = []
    copied = 0
    for key, begin, end in members(body, start):
        if key != _OPTIONS_KEY:
            continue
        value = body[begin:end].strip(SPACE)
        at = body.index(value, begin)
        if value == b"null":
            changed = b"{" + _ASKING + b"}"
        elif value.startswith(b"{"):
            changed = _asking(value)
        else:
            continue
        pieces += (body[copied:at], changed)
        copied = at + len(value)
    pieces.append(body[copied:])
    return b"".join(pieces)


def _asking(options: bytes) -> bytes:
    """A `stream_options` object that asks for usage, its other members as they were."""
    pieces: list[bytes] = []
    copied = 0
    empty = True
    for key, begin, end in members(options, 0):
        empty = False
        if key == _USAGE_KEY:
            value = options[begin:end].strip(SPACE)
            at = options.index(value, begin)
            pieces += (options[copied:at], b"true")
            copied = at + len(value)
    if not pieces:
        return b"{" + _ASKING + (b"" if empty else b",") + options[1:]
    return b"".join((*pieces, options[copied:]))
