"""Where a listing goes on: the last item of a page, spelt so that nobody takes it apart.

It is no secret and no proof: whatever it says, only the caller's own organization is listed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from admin.management_api.problems import Fault, Problem

_Item = TypeVar("_Item")


def spell(listing: str, place: Any) -> str:
    """The cursor of a listing at a place: a JSON value, or what msgspec makes one."""
    return base64.urlsafe_b64encode(msgspec.json.encode([listing, place])).decode().rstrip("=")


def read(listing: str, cursor: str | None, form: Any) -> Any:
    """The place, of that form; None without a cursor. Raises `Problem` for what is no cursor of this
    listing."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, place = msgspec.json.decode(raw, type=tuple[str, form])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise _no_cursor() from None
    if found != listing:
        raise _no_cursor()
    return place


def cut(
    items: Sequence[_Item], limit: int, listing: str, place_of: Callable[[_Item], Any]
) -> tuple[list[_Item], str | None]:
    """The page of items that were asked for with one more than `limit`, and the cursor if there are more."""
    page = list(items[:limit])
    return page, spell(listing, place_of(page[-1])) if len(items) > limit else None


def _no_cursor() -> Problem:
    return Problem("invalid", errors=(Fault("This is no cursor of this listing.", "$.cursor"),))
