"""Amounts of limits, as people and programs write them: whole numbers, and dollars with up to twelve digits
behind the point."""

from __future__ import annotations

import re
from decimal import Decimal

from storage.model import LimitKind

PICODOLLARS = 10**12
AMOUNT_MAX = 10**18
"""What the column holds: a million dollars."""
PATTERN = r"^[0-9]{1,19}(\.[0-9]{1,12})?$"
"""No exponents: `1e99999999` is short to write and long to work out."""
_AMOUNT = re.compile(PATTERN.replace("$", r"\Z"))


class BadAmount(Exception):
    """What was written is no amount of that kind."""


def read_amount(kind: LimitKind, text: str) -> int:
    """The amount in the unit that is kept. Raises `BadAmount`."""
    if not _AMOUNT.match(text):
        raise BadAmount
    amount = Decimal(text) * (PICODOLLARS if kind is LimitKind.MONEY else 1)
    whole = int(amount)
    if whole != amount or not 0 < whole <= AMOUNT_MAX:
        raise BadAmount
    return whole


def show_amount(kind: LimitKind, amount: int) -> str:
    """As `read_amount` reads it again."""
    return show_dollars(amount) if kind is LimitKind.MONEY else str(amount)


def show_dollars(picodollars: int) -> str:
    """`12.50`: cents at least, and nothing rounded away."""
    whole, rest = divmod(picodollars, PICODOLLARS)
    return f"{whole}.{f'{rest:012}'.rstrip('0').ljust(2, '0')}"
