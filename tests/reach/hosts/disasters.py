"""What must not get lost or be spent twice while hosts come and go under load."""

from __future__ import annotations

import time

import trio

from storage.model import LimitKind, Period
from tests.reach.hosts.scenarios import (
    FORGOTTEN_SECONDS_MAX,
    HEALED_SECONDS_MAX,
    SLACK_SECONDS,
    SLOW_KILOBITS,
)
from tests.reach.hosts.site import GATEWAYS
from tests.reach.hosts.stage import ANSWER_PICODOLLARS, Stage
from tests.reach.hosts.traffic import Asked, tally, until

BUDGET_ANSWERS = 3000
REQUESTS_PER_MINUTE = 300
CLIENTS = 4
USED_SHARE_MIN = 0.8
"""Of a budget that is asked for until nothing more is given."""
EXHAUSTED_SECONDS_MAX = 120.0


async def budgets_hold(stage: Stage) -> None:
    """A budget and a limit of requests, asked for at both hosts, while cables are cut and slow and one host
    is lost."""
    for key in ("poor", "paced"):
        await stage.mint(key)
    budget = BUDGET_ANSWERS * ANSWER_PICODOLLARS
    limit = await stage.limit("poor", LimitKind.MONEY, Period.MONTH, budget)
    await stage.limit("paced", LimitKind.REQUESTS, Period.MINUTE, REQUESTS_PER_MINUTE)
    began = time.time()
    async with trio.open_nursery() as nursery:
        for host in GATEWAYS:
            for _ in range(CLIENTS):
                nursery.start_soon(stage.traffic.load, host, "poor", 0.01)
            nursery.start_soon(stage.traffic.load, host, "paced", 0.01)
        await trouble(stage)
        healed = time.time()

        async def exhausted() -> bool:
            asked = [one for one in stage.traffic.since(time.time() - 4, key="poor") if one.ended]
            return len(asked) > 20 and {one.status for one in asked} == {402}

        await until(exhausted, EXHAUSTED_SECONDS_MAX, every=0.5)
        stage.tell("s from healing to all spent", time.time() - healed)
        nursery.cancel_scope.cancel()
    for host in GATEWAYS:
        stage.tell(f"at {host}", tally(stage.traffic.since(began, key="poor", host=host)))
    spent, answers = await stage.spent("poor")
    stage.tell("spent of the budget, by the provider's ledger", f"{spent / budget:.2%} in {answers} answers")
    assert spent <= budget
    assert spent >= USED_SHARE_MIN * budget, "too little was let through"
    await stage.usage_is_complete()
    window = await stage.db.fetch_row(
        "SELECT settled, written_off,"
        " (SELECT coalesce(sum(held), 0)::bigint FROM quota_leases WHERE limit_id = $1) AS held"
        " FROM quota_windows WHERE limit_id = $1",
        limit.limit_id,
    )
    assert window is not None
    charged = await stage.db.fetch_value(
        "SELECT sum(charged_picodollars)::bigint FROM usage WHERE key_id = $1", stage.key_ids["poor"]
    )
    stage.tell("settled, written off, lent", ", ".join(f"{value / budget:.2%}" for value in window.values()))
    assert window["settled"] == charged
    assert window["settled"] + window["written_off"] + window["held"] <= budget
    worst = await stage.db.fetch_value(
        "SELECT max(n) FROM (SELECT count(*) AS n FROM usage WHERE key_id = $1"
        " GROUP BY date_trunc('minute', started_at, 'UTC')) AS minutes",
        stage.key_ids["paced"],
    )
    stage.tell("requests in a minute, of so many", f"{worst} of {REQUESTS_PER_MINUTE}")
    assert worst <= REQUESTS_PER_MINUTE


async def trouble(stage: Stage) -> None:
    """One thing after the other; all is well in the end."""
    a, b = stage.site.hosts["a"], stage.site.hosts["b"]
    await trio.sleep(2)
    a.unplug("back")
    await trio.sleep(4)
    a.mend("back")
    b.slow("back", SLOW_KILOBITS)
    await trio.sleep(5)
    a.cut("back")
    await trio.sleep(3)
    a.mend("back")
    stage.tell("packets held up by the slow cable", b.delayed("back"))
    assert b.delayed("back") > 0
    await stage.site.lose_power("b")

    async def forgotten() -> bool:
        return await stage.sessions_of("b") == 0

    gone = await until(forgotten, FORGOTTEN_SECONDS_MAX)
    stage.tell("s until the database has forgotten a lost host", gone)
    await stage.site.start_gateway("b")
    await trio.sleep(2)


async def a_lost_host_leaves_a_lock(stage: Stage) -> None:
    """b loses its power between a statement and its COMMIT, with a row locked that a needs for its next
    slice."""
    await stage.mint("shared")
    amount = 1000 * BUDGET_ANSWERS * ANSWER_PICODOLLARS
    limit = await stage.limit("shared", LimitKind.MONEY, Period.MONTH, amount)
    await stage.traffic.warm("shared", "a")
    window = await stage.db.fetch_value(
        "SELECT window_start FROM quota_windows WHERE limit_id = $1", limit.limit_id
    )
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(stage.traffic.load, "a", "shared", 0.02)
        await trio.sleep(1)
        await stage.site.hold_lease("b", limit.limit_id, int(window.timestamp()))
        lost = time.time()
        await stage.site.lose_power("b")

        async def forgotten() -> bool:
            return await stage.sessions_of("b") == 0

        gone = await until(forgotten, FORGOTTEN_SECONDS_MAX)
        stage.tell("s until the lock is gone", gone)
        began = time.time()
        await stage.traffic.until_served("a", "shared", SLACK_SECONDS)
        stage.tell("s from there to the limited key served", time.time() - began)
        nursery.cancel_scope.cancel()
    stage.tell("meanwhile", tally(ended(stage, lost, "a")))
    await stage.site.start_gateway("b")


async def hosts_are_restarted(stage: Stage) -> None:
    """One by one, in order and without, under load: the other one answers everything."""
    await stage.mint("steady")
    await stage.traffic.warm("steady", *GATEWAYS)
    async with trio.open_nursery() as nursery:
        for host in GATEWAYS:
            for _ in range(CLIENTS):
                nursery.start_soon(stage.traffic.load, host, "steady", 0.02)
        await trio.sleep(1)
        for host, other in (("a", "b"), ("b", "a")):
            began = time.time()
            assert await stage.site.stop_gateway(host) == 0
            await stage.site.start_gateway(host)
            await stage.until_ready(host, SLACK_SECONDS)
            own = ended(stage, began, host)
            stage.tell(f"at {host} while it is restarted", tally(own))
            assert {one.trouble for one in own} <= {"", "refused"}, "an answer was broken off"
            assert_all_answered(stage, began, other, f"at {other} meanwhile")
        began = time.time()
        await stage.site.lose_power("b")
        await trio.sleep(3)
        await stage.site.start_gateway("b")
        await stage.until_ready("b", SLACK_SECONDS)
        assert_all_answered(stage, began, "a", "at a while b is lost and comes back")
        nursery.cancel_scope.cancel()


async def the_database_host_is_lost(stage: Stage) -> None:
    """Verified keys go on, and all comes back by itself."""
    await stage.mint("steadfast")
    await stage.mint("newcomer")
    await stage.traffic.warm("steadfast", *GATEWAYS)
    async with trio.open_nursery() as nursery:
        for host in GATEWAYS:
            for _ in range(CLIENTS):
                nursery.start_soon(stage.traffic.load, host, "steadfast", 0.02)
        began = time.time()
        await stage.site.lose_database()
        await trio.sleep(8)
        await stage.site.start_database()
        healed = time.time()
        for host in GATEWAYS:
            await stage.traffic.until_served(host, "newcomer", HEALED_SECONDS_MAX + SLACK_SECONDS)
        stage.tell("s from its return to new keys served at both", time.time() - healed)
        assert time.time() - healed <= HEALED_SECONDS_MAX + 1
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    for host in GATEWAYS:
        asked = [one for one in ended(stage, began, host) if one.key == "steadfast"]
        stage.tell(f"at {host} meanwhile", tally(asked))
        assert {one.status for one in asked} == {200}, tally(asked)


async def usage_is_complete(stage: Stage) -> None:
    """After everything: of all that was asked."""
    await stage.usage_is_complete()


def ended(stage: Stage, began: float, host: str) -> list[Asked]:
    """What has an end by now."""
    return [one for one in stage.traffic.since(began, host=host) if one.ended]


def assert_all_answered(stage: Stage, began: float, host: str, what: str) -> None:
    asked = ended(stage, began, host)
    stage.tell(what, tally(asked))
    assert len(asked) > CLIENTS
    assert {one.status for one in asked} == {200}, tally(asked)
