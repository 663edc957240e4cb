"""The models that a JSON body names beside the one it asks: its fallbacks (Anthropic's `fallbacks`,
OpenRouter's `models`), and those of its tools, as an advisor's.

Asked for keys whose scope names models, and for what is set apart for a request that may run several; nobody
else's body is looked at. Everything is taken that is told, whatever is told twice: of two members of a name
Karta reads the last, and a provider may read the first.

Nothing becomes a Python object on the way but what is looked for (as in `named_once`).

Bound: `ENTRIES_MAX` entries, a few milliseconds. What has more, or another form than the APIs name, is
unreadable here.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from enum import StrEnum
from typing import Final

import msgspec

from gateway.refusal import Kind, Refusal

# No API takes more tools.
ENTRIES_MAX: Final = 10_000


class Unreadable(Exception):
    """Nobody knows what this body would run."""


class OtherModels:
    """What one body names."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        """In the order of the first time each was named."""
        self.by_default = False
        """It leaves its fallbacks to the provider."""
        self.output_tokens_max: int | float = -1
        """The most that one of them is allowed to say; -1 where nothing is told."""
        self._entries = 0

    def count(self) -> None:
        self._entries += 1
        if self._entries > ENTRIES_MAX:
            raise ValueError("too many entries")


class _Reading:
    """The body being read: one at a time."""

    found = OtherModels()


class _Name(StrEnum):
    """A model's name. It has no member that somebody could name, so each is asked about."""

    ABSENT = secrets.token_hex(16)

    @classmethod
    def _missing_(cls, value: object) -> _Name:
        _Reading.found.count()
        _Reading.found.names[str(value)] = None
        return cls.ABSENT


class _Default(StrEnum):
    """A word in the place of a list of fallbacks."""

    ABSENT = secrets.token_hex(16)

    @classmethod
    def _missing_(cls, _value: object) -> _Default:
        _Reading.found.by_default = True
        return cls.ABSENT


class _Author(msgspec.Struct, gc=False):
    model: _Name | None = None


class _Entry(msgspec.Struct, gc=False):
    """A fallback, or a tool. OpenAI's tool for images may name a model for one of its forms, too."""

    model: _Name | None = None
    max_tokens: int | float | None = None
    svg: _Author | None = None

    def __post_init__(self) -> None:
        found = _Reading.found
        found.count()
        if self.max_tokens is not None:
            found.output_tokens_max = max(found.output_tokens_max, self.max_tokens)


class _Body(msgspec.Struct, gc=False):
    fallbacks: list[_Entry] | _Default | None = None
    models: list[_Name] | None = None
    tools: list[_Entry] | None = None


_decoder: Final = msgspec.json.Decoder(_Body)


def other_models(body: bytes) -> OtherModels:
    """Of a body that is a JSON object. Raises `Unreadable`."""
    found = _Reading.found = OtherModels()
    try:
        _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable from None
    finally:
        _Reading.found = OtherModels()
    return found


def refuse_other_models(body: bytes, allowed: Collection[str]) -> None:
    """Of a request with a key that may use the `allowed` models only. Raises `Refusal`."""
    try:
        found = other_models(body)
    except Unreadable:
        raise Refusal(
            Kind.MALFORMED,
            "This key's scope names models, and those in the `fallbacks`, `models` or `tools` of this body "
            "cannot be read: send each as the API's reference has it.",
        ) from None
    if found.by_default:
        raise Refusal(
            Kind.MODEL_FORBIDDEN,
            "This key's scope names models, and the provider would choose the fallbacks: name them, in "
            "`fallbacks`.",
        )
    if not all(name in allowed for name in found.names):
        raise Refusal(
            Kind.MODEL_FORBIDDEN,
            "This key may not use a model that its request names beside the first, as a fallback or for a "
            "tool; its scope names others.",
        )
