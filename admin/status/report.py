"""What the status page tells, put together from samples, days and incidents.

A report is data that can be kept: the page of a report that was kept says how old it is, and every state in
it that is older than `FRESH_MINUTES` is unknown, never up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import msgspec

from storage.health import Day, Month, Recent, State, select_days, select_months, select_recent
from storage.incidents import SHOWN_MAX, Incident, Kind, select_incidents, select_open
from storage.queries import Queries

FRESH_MINUTES = 3
"""The job looks each minute; one round may be lost, and another be under way."""
DAYS = 90
LABELS = {
    "gateway": "Gateway",
    "admin": "Admin pages",
    "database": "Database",
    "usage": "Usage records",
    "email": "Email",
    "webhooks": "Webhooks",
    "payments": "Payments",
}
_ORDER = list(LABELS)


class Shown(StrEnum):
    """A component's state, or that of all of Karta."""

    UP = "up"
    MAINTENANCE = "maintenance"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


HEADLINES = {
    Shown.UP: "Everything works",
    Shown.MAINTENANCE: "Maintenance is under way",
    Shown.DEGRADED: "Something is slow or limited",
    Shown.DOWN: "Something is down",
    Shown.UNKNOWN: "The state is unknown",
}
_WORST = (Shown.UP, Shown.MAINTENANCE, Shown.DEGRADED, Shown.UNKNOWN, Shown.DOWN)


class Bar(msgspec.Struct, frozen=True):
    """One day. `uptime` is the share of its minutes that were not down, unseen ones counting as down; None
    for a day before there was anything to look at."""

    day: date
    uptime: float | None
    unseen: int
    down: int


class Component(msgspec.Struct, frozen=True):
    name: str
    label: str
    state: State | None
    seen_at: datetime | None
    latency_ms: int | None
    uptime: float | None
    """Of the days shown."""
    bars: list[Bar]


class Report(msgspec.Struct, frozen=True):
    made_at: datetime
    components: list[Component]
    open: list[Incident]
    past: list[Incident]


class History(msgspec.Struct, frozen=True):
    """A component's months, newest first, each with its uptime."""

    name: str
    label: str
    months: list[tuple[date, float]]


def label(component: str) -> str:
    return LABELS.get(component, component.removeprefix("provider-").replace("-", " ").capitalize())


async def make_report(db: Queries, now: datetime) -> Report:
    """As it is now. Raises StorageError."""
    days: dict[str, list[Day]] = {}
    for day in await select_days(db, now.date() - timedelta(days=DAYS - 1)):
        days.setdefault(day.component, []).append(day)
    recents = sorted(await select_recent(db, now), key=lambda one: _place(one.component))
    return Report(
        made_at=now,
        components=[_component(recent, days.get(recent.component, []), now) for recent in recents],
        open=await select_open(db),
        past=[one for one in await select_incidents(db, limit=SHOWN_MAX) if _is_past(one, now)],
    )


async def make_history(db: Queries, now: datetime) -> list[History]:
    """The full uptime history of each component. Raises StorageError."""
    months: dict[str, list[tuple[date, float]]] = {}
    for month in await select_months(db):
        months.setdefault(month.component, []).append((month.month, _uptime_of_month(month, now)))
    return [History(name, label(name), months[name]) for name in sorted(months, key=_place)]


def state_of(component: Component, open_now: Sequence[Incident], now: datetime) -> Shown:
    """A component's state as it may be shown at a moment."""
    if component.seen_at is None or now - component.seen_at > timedelta(minutes=FRESH_MINUTES):
        return Shown.UNKNOWN
    for one in open_now:
        if one.kind is Kind.MAINTENANCE and one.starts_at <= now and component.name in one.components:
            return Shown.MAINTENANCE
    return Shown(component.state.value) if component.state else Shown.UNKNOWN


def overall(report: Report, now: datetime) -> Shown:
    """The worst of all; unknown where nothing was ever looked at. While an incident is open not everything
    works, whatever the samples say."""
    states = [state_of(component, report.open, now) for component in report.components]
    if states and any(one.kind is Kind.INCIDENT for one in report.open):
        states.append(Shown.DEGRADED)
    return max(states, key=_WORST.index, default=Shown.UNKNOWN)


def _is_past(one: Incident, now: datetime) -> bool:
    return one.cancelled or (one.ends_at is not None and one.ends_at <= now)


def _place(component: str) -> tuple[int, str]:
    return (_ORDER.index(component) if component in _ORDER else len(_ORDER), component)


def _component(recent: Recent, days: Sequence[Day], now: datetime) -> Component:
    by_day = {day.day: day for day in days}
    first = now.date() - timedelta(days=DAYS - 1)
    bars = [_bar(first + timedelta(days=number), by_day, now) for number in range(DAYS)]
    known = [(bar.uptime, _minutes(by_day, bar.day, now)) for bar in bars if bar.uptime is not None]
    minutes = sum(count for _, count in known)
    uptime = sum(share * count for share, count in known) / minutes if minutes else None
    return Component(
        name=recent.component,
        label=label(recent.component),
        state=recent.states[0] if recent.states else None,
        seen_at=recent.minutes[0] if recent.minutes else None,
        latency_ms=recent.latency_ms,
        uptime=uptime,
        bars=bars,
    )


def _bar(day: date, by_day: dict[date, Day], now: datetime) -> Bar:
    began = min((one.first_at for one in by_day.values()), default=None)
    if began is None or day < began.date():
        return Bar(day, None, 0, 0)
    expected = _minutes(by_day, day, now)
    found = by_day.get(day)
    good, down = (found.up + found.degraded, found.down) if found else (0, 0)
    unseen = max(0, expected - good - down)
    return Bar(day, min(1.0, good / expected) if expected else None, unseen, down)


def _minutes(by_day: dict[date, Day], day: date, now: datetime) -> int:
    """How many minutes of a day there were to look at: from the very first look on, up to now."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    began = min(one.first_at for one in by_day.values())
    start, end = max(midnight, began), min(midnight + timedelta(days=1), now)
    return max(0, -(-int((end - start).total_seconds()) // 60))


def _uptime_of_month(month: Month, now: datetime) -> float:
    following = (month.month.replace(day=28) + timedelta(days=4)).replace(day=1)
    end = min(datetime(following.year, following.month, 1, tzinfo=UTC), now)
    expected = max(1, -(-int((end - month.first_at).total_seconds()) // 60))
    return min(1.0, (month.up + month.degraded) / expected)
