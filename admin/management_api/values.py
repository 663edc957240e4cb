"""What the document cannot say of a value, and the pages ask of it as well."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from admin.management_api.problems import Fault, Problem

YEARS = range(2000, 2200)
"""Beyond them sums of hours would leave the calendar."""


def invalid(detail: str, pointer: str) -> Problem:
    return Problem("invalid", errors=(Fault(detail, pointer),))


def require_name(text: str, pointer: str) -> str:
    """The name as it is kept. Raises `Problem`."""
    name = text.strip()
    if not name or not name.isprintable():
        raise invalid("A name has printable characters only, and one at least.", pointer)
    return name


def require_printable(text: str, pointer: str) -> str:
    """Raises `Problem`."""
    if not text.isprintable():
        raise invalid("It has characters that cannot be printed.", pointer)
    return text


def require_choice(text: str, choices: Collection[str], pointer: str) -> str:
    """Raises `Problem`."""
    if text not in choices:
        raise invalid(f"It is one of {', '.join(choices)}.", pointer)
    return text


def require_moment(moment: datetime | None, pointer: str) -> datetime | None:
    """A time of these centuries. Raises `Problem`."""
    if moment is not None and moment.year not in YEARS:
        raise invalid(f"It is of the years {YEARS.start} to {YEARS.stop - 1}.", pointer)
    return moment


def require_future(moment: datetime | None, pointer: str) -> datetime | None:
    """Raises `Problem`."""
    if require_moment(moment, pointer) is not None and moment is not None and moment <= datetime.now(UTC):
        raise invalid("It has passed already.", pointer)
    return moment
