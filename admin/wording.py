"""How pages say what is kept: times, money, browsers."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal

_DOLLAR = 10**12
_CENT = _DOLLAR // 100
_BROWSERS = (
    (re.compile(r"\bEdg\w*/"), "Edge"),
    (re.compile(r"\bOPR/"), "Opera"),
    (re.compile(r"\bFirefox/"), "Firefox"),
    (re.compile(r"\b(?:Headless)?Chrom(?:e|ium)/"), "Chrome"),
    (re.compile(r"\bSafari/"), "Safari"),
)
"""In this order, since each names those below it as well."""
_SYSTEMS = (
    (re.compile(r"Windows"), "Windows"),
    (re.compile(r"iPhone|iPad"), "iOS"),
    (re.compile(r"Mac OS X"), "macOS"),
    (re.compile(r"Android"), "Android"),
    (re.compile(r"Linux|X11"), "Linux"),
)


def day(moment: date) -> str:
    """`23 Nov 2026`: no reader takes the month for the day."""
    return f"{moment.day} {moment:%b %Y}"


def minute(moment: datetime) -> str:
    """`23 Nov 2026, 14:05 UTC`."""
    return f"{day(moment)}, {moment:%H:%M} UTC"


def second(moment: datetime) -> str:
    """`23 Nov 2026, 14:05:09 UTC`."""
    return f"{day(moment)}, {moment:%H:%M:%S} UTC"


def milliseconds(microseconds: int) -> str:
    """`0.4 ms`, `12 ms`, `3.2 s`."""
    if microseconds >= 1_000_000:
        return f"{microseconds / 1_000_000:,.1f} s"
    return f"{microseconds / 1000:.0f} ms" if microseconds >= 10_000 else f"{microseconds / 1000:.1f} ms"


def dollars(picodollars: int) -> str:
    """`$1,234.50`; of less than a cent as many digits as tell something: `$0.000124`; below zero `-$3.00`."""
    if picodollars < 0:
        return f"-{dollars(-picodollars)}"
    if picodollars == 0 or picodollars >= _CENT:
        return f"${Decimal(picodollars) / _DOLLAR:,.2f}"
    if picodollars < _DOLLAR // 10**6:
        return "<$0.000001"
    return f"${Decimal(picodollars) / _DOLLAR:.6f}".rstrip("0")


def browser(user_agent: str | None) -> str:
    """`Firefox on Linux`, as far as it tells; it may say anything."""
    told = user_agent or ""
    name = next((name for pattern, name in _BROWSERS if pattern.search(told)), None)
    system = next((name for pattern, name in _SYSTEMS if pattern.search(told)), None)
    if name and system:
        return f"{name} on {system}"
    return name or told[:40] or "Unknown"


FILTERS = {
    "dollars": dollars,
    "day": day,
    "minute": minute,
    "second": second,
    "milliseconds": milliseconds,
    "browser": browser,
}
