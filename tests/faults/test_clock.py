"""Row 16: the wall clock jumps, and leaps back.

The clock is that of the gateway's processes alone, as after a bad correction on one host: the database has
another. (`test_clock_of_admin` has the control plane's.)
"""

from __future__ import annotations

import time
from pathlib import Path

import trio

from storage.api_keys import mint_key, revoke_key
from storage.bridge import open_database
from storage.limits import LimitScope, set_limit
from storage.model import LimitKind, Mode, Period
from tests.faults.arena import Arena, arena, only_in_full, scaled
from tests.faults.conftest import Table
from tests.faults.wall_clock import Clock, make_clock
from tests.gateway.conftest import ACTOR, Tenant
from tests.support.gateway import PATIENCE_SECONDS

HOUR = 3600.0
JUMPS = scaled((HOUR, -HOUR, 30.0, -30.0, -1.0, 0.0), (HOUR, -HOUR, 0.0))
LIMIT = 5
TRIES = 12
FIRST_BYTE_SECONDS = 2.0


async def test_a_clock_that_jumps(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """Timeouts are not moved by it, streams go on, keys are known, and every request has its row."""
    clock = make_clock(tmp_path)
    late: list[float] = []
    limit = FIRST_BYTE_SECONDS
    stand_ = arena(own_tenant, tmp_path, KARTA_FIRST_BYTE_SECONDS=f"{limit:g}", **clock.variables)
    async with stand_ as stand, stand.control():
        await stand.warm()
        for jump in JUMPS:
            await over_a_jump(stand, clock, jump, late)
        whole = [one for one in stand.history if one.whole]
        await stand.rows_of(*whole)
        found = await stand.findings()
        assert found.none, found
        stamps = [row["started_at"].timestamp() - time.time() for row in await stand.rows()]
        assert max(stamps) > HOUR / 2, "the clock did not jump"
    assert min(late) >= -0.3
    assert max(late) <= scaled(0.4, 5.0)
    table.add(
        16,
        "wall clock jumps",
        f"{len(JUMPS)} jumps up to an hour: 504 at {limit:g} s {min(late):+.2f} … {max(late):+.2f} s; "
        f"{len(whole)} answers whole; 0 lost",
    )


async def over_a_jump(stand: Arena, clock: Clock, jump: float, late: list[float]) -> None:
    """One that waits in vain and one that streams, while the clock jumps."""

    async def wait_in_vain() -> None:
        attempt = await stand.ask("hang=head", gateway=1)
        assert attempt.status == 504
        late.append(attempt.seconds - FIRST_BYTE_SECONDS)

    async def stream() -> None:
        attempt = await stand.ask("tokens=40,pace_ms=20")
        assert (attempt.status, attempt.whole) == (200, True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_in_vain)
        nursery.start_soon(stream)
        await stand.arrived(stand.history[-1]) if stand.history else None
        await trio.sleep(0.3)
        clock.set(jump)
        for gateway in range(2):
            assert (await stand.ask("tokens=1", gateway=gateway)).status == 200


async def test_a_revoked_key_is_refused_by_a_clock_that_is_behind(
    own_tenant: Tenant, tmp_path: Path, table: Table
) -> None:
    """When it was revoked is the database's word, and still to come for that gateway."""
    clock = make_clock(tmp_path)
    clock.set(-HOUR)
    async with (
        open_database(own_tenant.database_url, role="karta_admin") as admin,
        arena(own_tenant, tmp_path, **clock.variables) as stand,
    ):
        key, token = await mint_key(admin, ACTOR, org_id=own_tenant.org_id, name="revoked", mode=Mode.LIVE)
        before = await stand.ask("tokens=1", token=token)
        assert before.status == 200
        behind = time.time() - (await stand.row(before))["started_at"].timestamp()
        assert behind > HOUR / 2, "the clock is not behind"
        began = trio.current_time()
        await revoke_key(admin, ACTOR, key.key_id)
        with trio.fail_after(PATIENCE_SECONDS):
            while (await stand.ask("tokens=1", token=token)).status != 401:
                await trio.sleep(0.02)
        took = trio.current_time() - began
    table.add(16, "key revoked, clock an hour behind", f"refused after {took:.2f} s")


async def test_a_limit_is_not_opened_by_the_clock(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    clock = make_clock(tmp_path)
    async with open_database(own_tenant.database_url, role="karta_admin") as admin:
        key, token = await mint_key(admin, ACTOR, org_id=own_tenant.org_id, name="limited", mode=Mode.LIVE)
        scope = LimitScope(
            org_id=own_tenant.org_id, key_id=key.key_id, kind=LimitKind.REQUESTS, period=Period.MINUTE
        )
        await set_limit(admin, ACTOR, scope, LIMIT)
    async with arena(own_tenant, tmp_path, **clock.variables) as stand:
        began = time.time()
        admitted = await admitted_of(stand, token)
        assert admitted >= LIMIT
        for jump in (HOUR, -HOUR, 90.0, 0.0):
            clock.set(jump)
            admitted += await admitted_of(stand, token)
        windows = int(time.time() // 60) - int(began // 60) + 1
        # Hosts whose clocks differ by a minute are believed: a clock may open the next window, but no third.
        assert admitted <= LIMIT * (windows + 1), f"{admitted} of {LIMIT} a minute in {windows} minutes"
    table.add(16, "limit while the clock jumps", f"{admitted} admitted of {LIMIT} a minute in {windows} min")


async def admitted_of(stand: Arena, token: str) -> int:
    return sum([(await stand.ask("tokens=1", token=token)).status == 200 for _ in range(TRIES)])


@only_in_full
async def test_a_limit_is_not_locked_by_the_clock(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """An hour ahead and back: a minute later the limit is as open as ever."""
    clock = make_clock(tmp_path)
    async with open_database(own_tenant.database_url, role="karta_admin") as admin:
        scope = LimitScope(org_id=own_tenant.org_id, kind=LimitKind.REQUESTS, period=Period.MINUTE)
        await set_limit(admin, ACTOR, scope, LIMIT)
    async with arena(own_tenant, tmp_path, **clock.variables) as stand:
        await admitted_of(stand, own_tenant.token)
        clock.set(HOUR)
        await admitted_of(stand, own_tenant.token)
        clock.set(0)
        began = trio.current_time()
        with trio.fail_after(75):
            while (await stand.ask("tokens=1")).status != 200:
                await trio.sleep(0.5)
        locked = trio.current_time() - began
    table.add(16, "limit after the clock leapt back", f"open again after {locked:.0f} s (max a window: 60)")
