"""What spreads from host to host, and what is known where: revocations, lost databases, a lost control
plane."""

from __future__ import annotations

import time

import trio

from storage.deadlines import LOST_HOST_SECONDS_MAX, QUERY_SECONDS_MAX, STATEMENT_SECONDS_MAX
from tests.reach.hosts.site import GATEWAYS, KEY_STALE_SECONDS
from tests.reach.hosts.stage import Stage
from tests.reach.hosts.traffic import Asked, tally, until

REVOKED_SECONDS_MAX = 1.0
HEALED_SECONDS_MAX = 5.0
GAP_SECONDS_MAX = 2.0
"""A stream may notice the machine's other work, never a database."""
SLOW_KILOBITS = 128
"""A second, of what cables become when they are slow."""
SLACK_SECONDS = 10.0
"""For figures that are sums of time limits: this machine may be busy."""
FORGOTTEN_SECONDS_MAX = STATEMENT_SECONDS_MAX + LOST_HOST_SECONDS_MAX + SLACK_SECONDS
"""Until the database has ended a lost host's sessions. One whose statement waits for a lock says so when it
gives up, and the kernel counts from when it first sends that again: by slow cables some seconds later."""
FRESH_SECONDS = 60.0
"""How old the last sight of the database may be before a gateway says that it is not ready."""
REFRESH_SECONDS = 20.0


async def hammer(stage: Stage, key: str, hosts: tuple[str, ...], seconds: float) -> list[Asked]:
    """Connection after connection, at each of the hosts; what came of it."""
    began = time.time()

    async def one(host: str) -> None:
        while time.time() < began + seconds:
            await stage.traffic.ask(host, key, "tokens=1")

    async with trio.open_nursery() as nursery:
        for host in hosts:
            for _ in range(2):
                nursery.start_soon(one, host)
    return stage.traffic.since(began, key=key)


def last_accepted(asked: list[Asked], since: float) -> float:
    """How long after that a request was still begun that was let through, in seconds."""
    return max((one.began - since for one in asked if one.accepted), default=0.0)


def assert_refused(asked: list[Asked], status: int = 401) -> None:
    assert asked
    assert {one.status for one in asked} == {status}, tally(asked)


async def a_revocation_spreads(stage: Stage, rounds: int = 4) -> None:
    """Revoked on the admin host, refused at both gateways; also where the database is hard to reach."""
    worst = 0.0
    for number in range(rounds):
        worst = max(worst, await revoke_everywhere(stage, f"revoked-{number}"))
    stage.tell("s to refused at both hosts, worst", worst)
    gateways = [stage.site.hosts[name] for name in GATEWAYS]
    for gateway in gateways:
        gateway.slow("back", SLOW_KILOBITS)
    worst = 0.0
    for number in range(rounds):
        worst = max(worst, await revoke_everywhere(stage, f"revoked-slowly-{number}", SLACK_SECONDS))
    stage.tell("s by slow cables, worst", worst)
    for gateway in gateways:
        assert gateway.delayed("back") > 0
        gateway.mend("back")


async def revoke_everywhere(stage: Stage, key: str, accepted_seconds_max: float = 0) -> float:
    """For how many seconds after that was said a request was still let through."""
    await stage.mint(key)
    await stage.traffic.warm(key, *GATEWAYS, seconds_max=accepted_seconds_max)
    told = await stage.revoke(key)
    asked = await hammer(stage, key, GATEWAYS, 1.5)
    assert_refused([one for one in asked if one.began > told + REVOKED_SECONDS_MAX])
    return last_accepted(asked, told)


async def a_host_without_its_database_is_told_late(stage: Stage) -> None:
    """The cable between a and the database is pulled, and put back after some seconds."""
    await stage.mint("doomed")
    await stage.traffic.warm("doomed", *GATEWAYS)
    async with (
        stage.traffic.stream("a", "plain", 14.0) as plain,
        stage.traffic.stream("a", "doomed", 60.0) as doomed,
    ):
        stage.site.hosts["a"].unplug("back")
        told = await stage.revoke("doomed")
        asked = await hammer(stage, "doomed", GATEWAYS, 4.0)
        at_b = [one for one in asked if one.host == "b"]
        stage.tell("s to refused at the host that can be told", last_accepted(at_b, told))
        assert_refused([one for one in at_b if one.began > told + REVOKED_SECONDS_MAX])
        # As is written: it goes on with keys that it has verified, for as long as it may.
        assert {one.status for one in asked if one.host == "a"} == {200}, tally(asked)
        assert not doomed.over.is_set()
        stage.site.hosts["a"].mend("back")
        healed = time.time()
        asked = await hammer(stage, "doomed", ("a",), HEALED_SECONDS_MAX + 1)
        late = last_accepted(asked, healed)
        stage.tell("s from healing to refused at the other", late)
        assert late <= HEALED_SECONDS_MAX
        assert_refused([one for one in asked if one.began > healed + HEALED_SECONDS_MAX])
        with trio.fail_after(SLACK_SECONDS):
            await doomed.over.wait()
        stage.tell("s from healing to its running stream cut", doomed.asked.ended - healed)
        assert doomed.asked.trouble == "cut"
        assert doomed.asked.ended - healed <= HEALED_SECONDS_MAX + 1
        await plain.over.wait()
    stage.tell("longest gap of another key's stream, s", max(plain.gaps))
    assert plain.asked.trouble == ""
    assert max(plain.gaps) < GAP_SECONDS_MAX


async def half_open(stage: Stage) -> None:
    """The cable is cut without a word while the gateway waits for an answer, and for longer than keys are
    believed."""
    for key in ("unseen", "unseen-later", "doomed-silently"):
        await stage.mint(key)
    await stage.traffic.warm("doomed-silently", "a")
    async with stage.traffic.stream("a", "plain", 150.0) as running, trio.open_nursery() as nursery:
        waiting: list[Asked] = []
        cut = await cut_while_it_waits(stage, nursery, waiting)
        told = await stage.revoke("doomed-silently")

        async def forgotten() -> bool:
            return await stage.sessions_of("a") == 0

        stage.tell(
            "s until the database has ended its sessions",
            await until(forgotten, FORGOTTEN_SECONDS_MAX),
        )
        assert waiting, "the gateway still waits"
        stage.tell("s from the cut to the answer of who waited", waiting[0].ended - cut)
        assert waiting[0].status == 503, waiting
        assert waiting[0].ended - cut <= QUERY_SECONDS_MAX + SLACK_SECONDS
        later = await stage.traffic.ask("a", "unseen-later")
        stage.tell("a key never seen, meanwhile", f"{later.status} after {later.seconds:.1f} s")
        assert later.status == 503, later
        await policy(stage, cut, told)
        stage.site.hosts["a"].mend("back")
        healed = time.time()
        stage.tell(
            "s from healing to ready", await stage.until_ready("a", HEALED_SECONDS_MAX + SLACK_SECONDS)
        )
        assert time.time() - healed <= HEALED_SECONDS_MAX + 1
        await stage.traffic.until_served("a", "unseen", HEALED_SECONDS_MAX)
        stage.tell("s from healing to new keys served", time.time() - healed)
        asked = await hammer(stage, "doomed-silently", ("a",), 1.0)
        assert_refused(asked)
        assert running.asked.trouble == ""
        stage.tell("longest gap of a stream all the while, s", max(running.gaps))
        assert max(running.gaps) < GAP_SECONDS_MAX
        assert not running.over.is_set()


async def cut_while_it_waits(stage: Stage, nursery: trio.Nursery, waiting: list[Asked]) -> float:
    """A statement of a gateway's is held up in the database, the cable cut, then its answer sent; when."""

    async def ask() -> None:
        waiting.append(await stage.traffic.ask("a", "unseen"))

    async def held_up() -> bool:
        waiting_there = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(await stage.db.fetch_value(f"{waiting_there} AND client_addr = '10.71.2.2'"))

    async with stage.db.transaction() as tx:
        await tx.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        nursery.start_soon(ask)
        await until(held_up, SLACK_SECONDS)
        stage.site.hosts["a"].cut("back")
        return time.time()


async def policy(stage: Stage, cut: float, told: float) -> None:
    """What is written of a gateway whose database is away: verified keys go on for their time, then nothing
    does, and readiness says why. The other host notices nothing."""
    unready = 0.0
    while time.time() < cut + max(KEY_STALE_SECONDS, FRESH_SECONDS) + REFRESH_SECONDS + SLACK_SECONDS:
        for host, key in (("a", "doomed-silently"), ("a", "plain"), ("b", "plain")):
            await stage.traffic.ask(host, key, "tokens=1")
        probes = [await stage.traffic.probe("a") for _ in range(8)]
        if not unready and all(status == 503 for status, _ in probes):
            unready = time.time() - cut
            stage.tell("s from the cut to not ready", unready)
            stage.tell("the reason", probes[0][1])
            assert all("database" in reason for _, reasons in probes for reason in reasons)
        await trio.sleep(0.5)
    assert 0 < unready <= FRESH_SECONDS + REFRESH_SECONDS
    revoked = stage.traffic.since(told, key="doomed-silently", host="a")
    stage.tell("s a key revoked meanwhile went on", last_accepted(revoked, told))
    assert last_accepted(revoked, cut) <= KEY_STALE_SECONDS + 2
    assert revoked[-1].status == 503, revoked[-1]
    plain = stage.traffic.since(cut, key="plain", host="a")
    assert {one.status for one in plain} == {200, 503}, tally(plain)
    other = stage.traffic.since(cut, key="plain", host="b")
    stage.tell("meanwhile at the other host", tally(other))
    assert {one.status for one in other} == {200}, tally(other)


async def the_admin_host_is_lost(stage: Stage) -> None:
    """Gateways neither need it nor notice."""
    await stage.mint("late")
    await stage.site.lose_power("admin")
    began = time.time()
    await hammer(stage, "plain", GATEWAYS, 2.0)
    for host in GATEWAYS:
        await stage.traffic.until_served(host, "late", SLACK_SECONDS)
    asked = stage.traffic.since(began)
    stage.tell("meanwhile", tally(asked))
    assert {one.status for one in asked} == {200}, tally(asked)
    await stage.site.start_admin()
    told = await stage.revoke("late")
    asked = await hammer(stage, "late", GATEWAYS, 1.5)
    stage.tell("s to refused, once it is back", last_accepted(asked, told))
    assert_refused([one for one in asked if one.began > told + REVOKED_SECONDS_MAX])
