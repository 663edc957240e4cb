"""How pages show a limit with what is used of it: in words, and as a share for a bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from admin.wording import dollars
from storage.limits import LimitStanding
from storage.model import LimitKind, Period

NEAR_PERCENT = 80
_NAMES = {
    (LimitKind.REQUESTS, Period.MINUTE): "Requests a minute",
    (LimitKind.TOKENS, Period.MINUTE): "Tokens a minute",
    (LimitKind.CONCURRENT, Period.NONE): "Requests at once",
    (LimitKind.MONEY, Period.DAY): "Budget of the day",
    (LimitKind.MONEY, Period.MONTH): "Budget of the month",
}


class Standing(NamedTuple):
    name: str
    """What is limited: `Budget of the month`."""
    whom: str
    """Whose it is: the organization's, or a key's name; and of which model, if of one alone."""
    used: str
    amount: str
    percent: int
    state: str
    """In a word; also a class of the style sheet."""
    note: str
    """What follows from the state."""


def describe(standing: LimitStanding, names: Mapping[str, str]) -> Standing:
    """`names` are those of the organization's keys, by id."""
    limit = standing.limit
    # What is held is spent or about to be; what was written off may have been.
    used = standing.settled + standing.held + standing.written_off
    percent = used * 100 // limit.amount
    whom = "Organization" if limit.key_id is None else names.get(limit.key_id, limit.key_id)
    state, note = _judge(percent, limit.hard)
    return Standing(
        name=_NAMES.get((limit.kind, limit.period), f"{limit.kind.value} a {limit.period.value}"),
        whom=f"{whom}, {limit.model}" if limit.model else whom,
        used=_show(limit.kind, used),
        amount=_show(limit.kind, limit.amount),
        percent=percent,
        state=state,
        note=note,
    )


def describe_all(standings: Iterable[LimitStanding], names: Mapping[str, str]) -> list[Standing]:
    """Those nearest their end first."""
    return sorted((describe(one, names) for one in standings), key=lambda one: (-one.percent, one.whom))


def _judge(percent: int, hard: bool) -> tuple[str, str]:
    if percent >= 100:
        return ("spent", "requests are refused") if hard else ("over", "soft: nothing is refused")
    if percent >= NEAR_PERCENT:
        return "near", "near its end"
    return "free", ""


def _show(kind: LimitKind, amount: int) -> str:
    return dollars(amount) if kind is LimitKind.MONEY else f"{amount:,}"
