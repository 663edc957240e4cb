"""The health job against a real gateway, a real database, and things that are not well."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from karta import health_job
from karta.health_job import decide, run_every_minute, run_round, take_samples
from karta.health_probes import Endpoint, Targets
from storage import error_reports
from storage.bridge import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable
from storage.health import Sample, State, insert_samples, select_recent, this_minute
from storage.incidents import select_incidents, select_open

UP, DEGRADED, DOWN = State.UP, State.DEGRADED, State.DOWN
NOBODY = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("states", "open_now", "decision"),
    [
        ([DOWN, DOWN], False, None),
        ([DOWN, DOWN, DOWN], False, "open"),
        ([DOWN, DOWN, DOWN], True, None),
        ([DOWN, DEGRADED, DOWN], False, None),
        ([UP, DOWN, DOWN, DOWN], False, None),
        ([UP] * 4 + [DOWN], True, None),
        ([UP] * 5, True, "resolve"),
        ([UP] * 5, False, None),
        ([], True, None),
    ],
)
def test_when_incidents_open_and_end(states: list[State], open_now: bool, decision: str | None) -> None:
    assert decide(states, has_incident=open_now) == decision


async def test_a_failure_that_lasts_opens_an_incident_and_its_end_resolves_it(admin_db: Database) -> None:
    minute = this_minute()
    states = [UP, DOWN, DOWN, DOWN, DOWN, *[UP] * 5]
    opened = []
    for number, state in enumerate(states):
        now = minute + timedelta(minutes=number)
        await insert_samples(admin_db, now, [Sample("gateway", state)])
        for recent in await select_recent(admin_db, now):
            await health_job.judge(admin_db, recent)
        opened.append(len(await select_open(admin_db)))
    assert opened == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0]
    [incident] = await select_incidents(admin_db)
    assert (incident.title, incident.components, incident.automatic) == (
        "Gateway is down",
        ("gateway",),
        True,
    )
    assert incident.updates[0].message == "Gateway has answered all checks of the last 5 minutes."


async def test_what_is_away_is_down_and_names_nobody(admin_db: Database) -> None:
    targets = Targets(NOBODY, NOBODY, {"x": Endpoint(NOBODY)}, sends_mail=True, takes_payments=True)
    samples = await take_samples(admin_db, targets, None)
    assert {sample.component: sample.state for sample in samples} == {
        "admin": DOWN,
        "database": UP,
        "email": UP,
        "gateway": DOWN,
        "payments": UP,
        "provider-x": DOWN,
        "webhooks": UP,
    }


async def test_of_several_one_does_the_round(admin_db: Database) -> None:
    done = []

    async def run() -> None:
        done.append(await run_round(admin_db, Targets(None, None), None))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(run)
    # A minute may begin in between: then there are two rounds, and never two of one minute.
    rounds = await admin_db.fetch_value("SELECT count(*) FROM health_rounds")
    assert len([samples for samples in done if samples is not None]) == rounds


def test_a_round_that_fails_is_told_and_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = []
    told: list[BaseException] = []
    busy = DatabaseBusy("too long")

    async def fail(*_: object) -> None:
        rounds.append(trio.current_time())
        if len(rounds) == 3:
            raise trio.TooSlowError
        raise busy if len(rounds) == 2 else DatabaseUnavailable("away")

    monkeypatch.setattr(health_job, "run_round", fail)
    monkeypatch.setattr(error_reports, "report", lambda error, _: told.append(error))
    nobody: Any = None
    clock = trio.testing.MockClock(autojump_threshold=0)
    with pytest.raises(trio.TooSlowError):
        trio.run(run_every_minute, nobody, Targets(None, None), None, clock=clock)
    assert "away" in caplog.text
    assert told == [busy], "a database that is away is no fault"
    assert all(1 <= later - earlier <= 61 for earlier, later in pairwise(rounds))
