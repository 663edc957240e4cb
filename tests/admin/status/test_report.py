"""States and uptimes, also of what was not looked at."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from admin.status.report import Shown, label, make_history, make_report, overall, state_of
from storage.bridge import Database
from storage.health import Sample, State, insert_samples
from storage.incidents import open_incident, plan_maintenance
from tests.admin.conftest import ACTOR

NOW = datetime(2026, 4, 1, 0, 10, tzinfo=UTC)


async def sample(db: Database, minute: datetime, state: State, component: str = "gateway") -> None:
    await insert_samples(db, minute, [Sample(component, state, 7)])


async def test_nothing_is_known_at_first(admin_db: Database) -> None:
    report = await make_report(admin_db, NOW)
    assert (report.components, overall(report, NOW)) == ([], Shown.UNKNOWN)


async def test_uptime_counts_every_minute_that_there_was(admin_db: Database) -> None:
    """From 23:50 on, ten minutes of March and ten of April: one down, one degraded, four not looked at."""
    start = NOW - timedelta(minutes=20)
    for number in range(16):
        state = {3: State.DOWN, 5: State.DEGRADED}.get(number, State.UP)
        await sample(admin_db, start + timedelta(minutes=number), state)
    [component] = (await make_report(admin_db, NOW)).components
    assert [(bar.day, bar.uptime, bar.down, bar.unseen) for bar in component.bars[-2:]] == [
        (date(2026, 3, 31), 0.9, 1, 0),
        (date(2026, 4, 1), 0.6, 0, 4),
    ]
    assert component.bars[0].uptime is None
    assert component.uptime == pytest.approx(15 / 20)
    [history] = await make_history(admin_db, NOW)
    assert history.months == [(date(2026, 4, 1), 0.6), (date(2026, 3, 1), 0.9)]


async def test_a_whole_day_that_was_not_looked_at_is_no_good_day(admin_db: Database) -> None:
    await sample(admin_db, NOW - timedelta(days=2), State.UP)
    [component] = (await make_report(admin_db, NOW)).components
    assert component.bars[-2].uptime == 0
    assert component.bars[-2].unseen == 24 * 60


async def test_a_job_that_does_not_run_means_unknown(admin_db: Database) -> None:
    await sample(admin_db, NOW, State.UP)
    report = await make_report(admin_db, NOW)
    assert overall(report, NOW) is Shown.UP
    assert overall(report, NOW + timedelta(minutes=3)) is Shown.UP
    assert overall(report, NOW + timedelta(minutes=3, seconds=1)) is Shown.UNKNOWN


@pytest.mark.parametrize("state", [State.UP, State.DEGRADED, State.DOWN])
async def test_the_worst_is_what_all_is(admin_db: Database, state: State) -> None:
    await sample(admin_db, NOW, state)
    await sample(admin_db, NOW, State.UP, "provider-open-ai")
    report = await make_report(admin_db, NOW)
    assert overall(report, NOW) is Shown(state.value)
    assert [one.label for one in report.components] == ["Gateway", "Open ai"]


async def test_while_an_incident_is_open_not_everything_works(admin_db: Database) -> None:
    await sample(admin_db, NOW, State.UP)
    await open_incident(admin_db, ACTOR, "Slow", [], "x")
    assert overall(await make_report(admin_db, NOW), NOW) is Shown.DEGRADED


async def test_maintenance_is_no_failure(admin_db: Database) -> None:
    now = datetime.now(UTC)
    await sample(admin_db, now.replace(second=0, microsecond=0), State.DOWN)
    hour = timedelta(hours=1)
    await plan_maintenance(admin_db, ACTOR, "Disks", ["gateway"], "x", now - hour, now + hour)
    report = await make_report(admin_db, now)
    [component] = report.components
    assert state_of(component, report.open, now) is Shown.MAINTENANCE
    assert overall(report, now + 2 * hour) is Shown.UNKNOWN


def test_labels() -> None:
    assert [label(name) for name in ("usage", "provider-openai")] == ["Usage records", "Openai"]
