"""What a letter says, before it is text or HTML."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import TypeAlias

import msgspec

from admin import wording

SUBJECT_CHARS_MAX = 150
NAME_CHARS_MAX = 100
_LINKISH = re.compile(r"([.:/@])(?=\S)")
_WORD_JOINER = "\u2060"


class Paragraph(msgspec.Struct, frozen=True):
    text: str


class Link(msgspec.Struct, frozen=True):
    """`path` is one of ours, from the origin on."""

    path: str
    label: str


class Quote(msgspec.Struct, frozen=True):
    """What somebody wrote, line by line."""

    text: str


class Details(msgspec.Struct, frozen=True):
    """Names and values."""

    rows: tuple[tuple[str, str], ...]


Block: TypeAlias = Paragraph | Link | Quote | Details


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """`why` says at the end why somebody gets the letter, and `end` leads to where it can be ended."""

    subject: str
    blocks: tuple[Block, ...]
    why: str
    end: Link | None = None


def line(text: object, chars_max: int = SUBJECT_CHARS_MAX) -> str:
    """Text as one line without anything invisible: fit for a subject."""
    shown = "".join(
        " " if unicodedata.category(char)[0] in "CZ" else char for char in str(text)[: chars_max * 4]
    )
    shown = " ".join(shown.split())
    return shown if len(shown) <= chars_max else shown[: chars_max - 1] + "…"


def lines(text: object) -> str:
    """Text of several lines without anything else that is invisible."""
    return "\n".join(line(one, 2000) for one in str(text).splitlines())


def name(text: object) -> str:
    """What somebody called something. A mail program makes no link of it, whatever it says."""
    return unlinked(line(text, NAME_CHARS_MAX))


def unlinked(text: str) -> str:
    """The same to the eye, but nothing that a mail program takes for a link."""
    return _LINKISH.sub(rf"\1{_WORD_JOINER}", text)


def minute(moment: object) -> str:
    """From ISO 8601, as the database or Python writes it: `23 Nov 2026, 14:05 UTC`."""
    return wording.minute(datetime.fromisoformat(str(moment)))
