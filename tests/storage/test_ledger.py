"""The ledger: adds up to zero, is written once, never changes; and what it sums up to."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import ledger
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import AppendOnly, CheckFailed, Conflict, Denied, InvalidReference, InvalidValue
from storage.ledger import Account, Balance, EntryKind
from storage.model import Actor, Organization, Plan
from storage.organizations import create_organization
from tests.storage import ledger_posts

DOLLAR = 10**12


async def top_up(db: Database, org: Organization, amount: int, source: str) -> int | None:
    async with db.transaction() as tx:
        return await ledger_posts.top_up(tx, org.org_id, amount, source)


async def test_money_in_and_out(admin_db: Database, actor: Actor, org: Organization) -> None:
    assert await top_up(admin_db, org, 10 * DOLLAR, "stripe:evt_1") is not None
    assert await top_up(admin_db, org, 10 * DOLLAR, "stripe:evt_1") is None
    with pytest.raises(Conflict):
        await top_up(admin_db, org, 11 * DOLLAR, "stripe:evt_1")
    async with admin_db.transaction() as tx:
        await ledger_posts.refund(tx, org.org_id, 4 * DOLLAR, "stripe:evt_2")
        await ledger.adjust(tx, actor, org.org_id, -DOLLAR, "staff:1", note="ticket 12")
        await ledger_posts.pay(tx, org.org_id, DOLLAR, "stripe:evt_3")
    async with admin_db.transaction() as tx:
        assert await ledger.adjust(tx, actor, org.org_id, -DOLLAR, "staff:1", note="ticket 12") is None
    assert await ledger.select_balance(admin_db, org.org_id) == Balance(credit=6 * DOLLAR, included=0)
    assert await ledger_posts.select_accounts(admin_db, org.org_id) == {
        Account.CREDIT: 6 * DOLLAR,
        Account.STRIPE: -11 * DOLLAR,
        Account.REFUNDS: 4 * DOLLAR,
        Account.ADJUSTMENTS: DOLLAR,
    }
    lines = await ledger.select_statement(admin_db, org.org_id)
    assert [(line.kind, line.balance // DOLLAR) for line in lines] == [
        (EntryKind.PAYMENT, 6),
        (EntryKind.ADJUSTMENT, 5),
        (EntryKind.REFUND, 6),
        (EntryKind.TOP_UP, 10),
    ]
    page = await ledger.select_statement(admin_db, org.org_id, 2)
    assert page == lines[:2]
    assert await ledger.select_statement(admin_db, org.org_id, 2, page[-1].transaction_id) == lines[2:]
    events = [row.event for row in await select_audit_rows(admin_db, org.org_id)]
    assert events[1:] == ["credit:adjusted"], "once; what was paid has the rows of payments"


@pytest.mark.parametrize("amount", [0, -ledger.AMOUNT_MAX - 1, ledger.AMOUNT_MAX + 1])
async def test_amounts_have_bounds(admin_db: Database, actor: Actor, org: Organization, amount: int) -> None:
    with pytest.raises(InvalidValue):
        async with admin_db.transaction() as tx:
            await ledger.adjust(tx, actor, org.org_id, amount, "s", note="n")


async def test_entries_that_do_not_add_up_are_refused(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    with pytest.raises(CheckFailed, match="zero"):
        async with admin_db.transaction() as tx:
            entries = {Account.CREDIT: 5, Account.STRIPE: -4}
            await ledger.post(tx, org.org_id, EntryKind.TOP_UP, "odd", entries)
    with pytest.raises(InvalidReference):
        async with admin_db.transaction() as tx:
            entries = {Account.CREDIT: 5, Account.STRIPE: -5}
            await ledger.post(tx, uuid4(), EntryKind.TOP_UP, "nobody's", entries)
    # Not even by the owner, who is held by the constraint at commit.
    header = """
        INSERT INTO ledger_transactions (org_id, kind, source) VALUES ($1, 'top_up', $2)
        RETURNING transaction_id
    """
    line = "INSERT INTO ledger_entries (transaction_id, account, org_id, amount) VALUES ($1, $2, $3, $4)"
    with pytest.raises(CheckFailed, match="zero"):
        await owner_db.fetch_value(header, org.org_id, "no entries")
    with pytest.raises(CheckFailed, match="zero"):
        async with owner_db.transaction() as tx:
            one = await tx.fetch_value(header, org.org_id, "one entry")
            await tx.execute(line, one, "credit", org.org_id, 5)
    posted = await top_up(admin_db, org, DOLLAR, "whole")
    with pytest.raises(AppendOnly):
        async with owner_db.transaction() as tx:
            await tx.execute(line, posted, "usage", org.org_id, 7)
            await tx.execute(line, posted, "refunds", org.org_id, -7)


CHANGES = (
    "UPDATE ledger_entries SET amount = amount + 1",
    "DELETE FROM ledger_entries",
    "TRUNCATE ledger_entries",
    "UPDATE ledger_transactions SET note = 'x'",
    "DELETE FROM ledger_transactions",
    "TRUNCATE ledger_transactions CASCADE",
)


async def test_what_is_there_stays(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await top_up(admin_db, org, DOLLAR, "s")
    for statement in CHANGES:
        with pytest.raises(AppendOnly, match="append-only"):
            await owner_db.execute(statement)
        with pytest.raises(AppendOnly):
            async with owner_db.transaction() as tx:
                await tx.execute("SET LOCAL session_replication_role = replica")
                await tx.execute(statement)
        with pytest.raises(Denied):
            await admin_db.execute(statement)


async def test_the_programs_write_by_the_function_only(
    admin_db: Database, gateway_db: Database, org: Organization
) -> None:
    with pytest.raises(Denied):
        await admin_db.execute(
            "INSERT INTO ledger_transactions (org_id, kind, source) VALUES ($1, 'top_up', 's')", org.org_id
        )
    for statement in ("SELECT * FROM ledger_entries", "SELECT lock_ledger(gen_random_uuid())"):
        with pytest.raises(Denied):
            await gateway_db.fetch(statement)


async def test_nobody_posts_while_another_goes_by_the_balance(
    admin_db: Database, owner_db: Database, org: Organization
) -> None:
    posted: list[int | None] = []
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

    async def come_second() -> None:
        posted.append(await top_up(admin_db, org, DOLLAR, "second"))

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await ledger.lock(tx, org.org_id)
        nursery.start_soon(come_second)
        with trio.fail_after(20):
            while not posted and not await owner_db.fetch_value(waiting):
                await trio.sleep(0.01)
        assert posted == []
        assert (await ledger.select_balance(tx, org.org_id)).credit == 0
    assert (await ledger.select_balance(admin_db, org.org_id)).credit == DOLLAR


MOVES = st.lists(
    st.tuples(st.sampled_from(["top_up", "adjust", "refund"]), st.integers(1, 10**15), st.integers(0, 9)),
    min_size=1,
    max_size=15,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES)
async def test_whatever_is_posted_at_once_adds_up(
    admin_db: Database, actor: Actor, moves: list[tuple[str, int, int]]
) -> None:
    """Posts at the same time, some of the same source: each source counts once, and sums are what they are by
    hand."""
    org = await create_organization(admin_db, actor, name="x", plan=Plan.PRO)
    counted: dict[str, tuple[str, int]] = {}

    async def move(kind: str, amount: int, number: int) -> None:
        source = f"{org.org_id}:{number}"
        try:
            async with admin_db.transaction() as tx:
                if kind == "adjust":
                    done = await ledger.adjust(tx, actor, org.org_id, amount, source, note="n")
                else:
                    act = ledger_posts.top_up if kind == "top_up" else ledger_posts.refund
                    done = await act(tx, org.org_id, amount, source)
        except Conflict:
            return
        if done is not None:
            assert source not in counted
            counted[source] = kind, amount

    async with trio.open_nursery() as nursery:
        for one in moves:
            nursery.start_soon(move, *one)
    expected = sum(-amount if kind == "refund" else amount for kind, amount in counted.values())
    balance = await ledger.select_balance(admin_db, org.org_id)
    assert balance == Balance(credit=expected, included=0)
    assert sum((await ledger_posts.select_accounts(admin_db, org.org_id)).values()) == 0
    lines = await ledger.select_statement(admin_db, org.org_id)
    assert {line.source for line in lines} == set(counted)
    assert not lines or lines[0].balance == expected
