"""Who else processes customers' data: a file that is checked at start, shown, and told of when it changes.

It may be edited meanwhile: what is not sound is logged, and the list before it holds."""

from __future__ import annotations

import hashlib
import logging
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec

FILE_BYTES_MAX = 256 * 1024
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Https = Annotated[str, msgspec.Meta(pattern=r"^https://[^\s<>\"]+$", max_length=500)]
_log = logging.getLogger("karta.admin")


class SubProcessor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vendor: Line
    purpose: Line
    data: Line
    contact: Line
    location: Line
    url: Https
    since: date


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    date: date
    change: Line


class SubProcessors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `history` is newest first."""

    sub_processors: list[SubProcessor]
    history: Annotated[list[Change], msgspec.Meta(min_length=1)]

    @property
    def digest(self) -> bytes:
        """Of the content: changed words count, changed comments do not."""
        return hashlib.sha256(msgspec.json.encode(self)).digest()


class NotSubProcessors(ValueError):
    """The file does not hold what it should; the message says where."""


def load(chosen: Path | None = None) -> SubProcessors:
    """Reads the file: the chosen one, or the release's own. Raises `NotSubProcessors`."""
    beside = Path(__file__).parent / "sub_processors.yml"
    inside = beside if beside.exists() else Path(__file__).parents[2] / "config" / "sub_processors.yml"
    path = chosen or inside
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise NotSubProcessors(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise NotSubProcessors(f"{path} is larger than {FILE_BYTES_MAX // 1024} KiB")
    if b"&" in content or b"!" in content:
        # Anchors and tags: nothing here needs them, and with them a small file can mean a large one.
        raise NotSubProcessors(f"{path} holds `&` or `!`: write it without YAML's anchors and tags")
    try:
        found = msgspec.yaml.decode(content, type=SubProcessors)
    except msgspec.MsgspecError as error:
        raise NotSubProcessors(f"{path}: {error}") from None
    dates = [one.date for one in found.history]
    if dates != sorted(dates, reverse=True):
        raise NotSubProcessors(f"{path}: history is not in order, the newest first")
    return found


class SubProcessorsFile:
    """The file as it was last sound, while people edit it. Raises `NotSubProcessors` if it is not now."""

    def __init__(self, chosen: Path | None = None) -> None:
        self._chosen = chosen
        self._sound = load(chosen)
        self._problem: str | None = None

    def read(self) -> SubProcessors:
        """Reads it anew. A slip is logged once, and the list before it is returned."""
        try:
            self._sound, self._problem = load(self._chosen), None
        except NotSubProcessors as error:
            if str(error) != self._problem:
                _log.error("the list of sub-processors is shown as it was before: %s", error)
            self._problem = str(error)
        return self._sound
