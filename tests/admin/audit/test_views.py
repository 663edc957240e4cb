"""The audit pages over rows as they are written."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
import trio

from admin.audit import views
from storage import audit_search
from storage.api_keys import mint_key
from storage.audit import select_audit_rows
from storage.audit_chain import sign_heads
from storage.audit_checkpoints import ensure_signing_key
from storage.audit_export import verify_lines
from storage.bridge import Database
from storage.model import Mode, Plan
from storage.plan_terms import Allowance
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, MASTER_KEYS, Person, make_person, make_stale, raw_exchange
from tests.storage.test_audit import append, tamper


def at(person: Person, page: str = "audit") -> str:
    return f"/organizations/{person.organization.org_id}/{page}"


def cookies(visitor: Visitor) -> str:
    return "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())


async def test_what_happened_newest_first(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    org_id = person.organization.org_id
    key, _ = await mint_key(admin_db, ACTOR, org_id=org_id, name="<b>bold</b>", mode=Mode.LIVE)
    await make_person(admin_db, "eve@example.com", name="Elsewhere")
    page = (await signed_in.get(at(person))).text
    table = page.partition("<tbody>")[2].replace("<wbr>", "")
    assert (
        table.index("api_key:minted") < table.index("sign_in:succeeded") < table.index("organization:created")
    )
    assert key.key_id in table
    assert "&lt;b&gt;bold" in table
    assert "ada@example.com" in table
    assert "Elsewhere" not in page
    assert "style=" not in page


async def test_it_can_be_searched(signed_in: Visitor, person: Person) -> None:
    found = (await signed_in.get(at(person, "audit?event=sign_in:succeeded"))).text.partition("<tbody>")[2]
    assert found.count("<tr>") == 1
    nothing = (await signed_in.get(at(person, "audit?text=%22%3E%3Cscript%3E&since=x"))).text
    assert "No row matches" in nothing
    assert 'value="&#34;&gt;&lt;script&gt;"' in nothing
    assert "No row matches" in (await signed_in.get(at(person, "audit?until=2020-01-01"))).text
    odd = [f"audit?before={digits}" for digits in ("0" * 19 + "1" + "9" * 30, "0" * 19 + "1" + "9" * 5000)]
    for page in ("audit?event=no:such", "audit?before=x", "audit?before=0", *odd, "audit.pdf"):
        assert (await signed_in.get(at(person, page))).status_code == 404


async def test_pages_follow_each_other(
    signed_in: Visitor, person: Person, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "ROWS_SHOWN", 2)
    await append(admin_db, person.organization.org_id, 3)
    path, seen = at(person), 0
    while path:
        page = (await signed_in.get(path)).text
        seen += page.partition("<tbody>")[2].count("<tr>")
        found = page.partition('" rel="next"')[0]
        path = found.rpartition('href="')[2].replace("&amp;", "&") if 'rel="next"' in page else ""
    assert seen == len(await select_audit_rows(admin_db, person.organization.org_id))


async def test_an_export_asks_for_proof_and_tells_of_itself(
    signed_in: Visitor, person: Person, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_search, "BATCH_ROWS", 3)
    org_id = person.organization.org_id
    await append(admin_db, org_id, 10)
    answer = await signed_in.get(at(person, "audit.jsonl"))
    assert answer.headers["content-type"] == "application/jsonl; charset=utf-8"
    assert f'attachment; filename="audit-{org_id}-' in answer.headers["content-disposition"]
    report = verify_lines(answer.content.splitlines(keepends=True))
    rows = await select_audit_rows(admin_db, org_id)
    assert (report.problem, report.org_id, report.rows) == (None, org_id, len(rows))
    assert (rows[-1].event, rows[-1].actor_id) == ("audit:exported", str(person.user.user_id))
    answer = await signed_in.get(at(person, "audit.csv?event=api_key"))
    assert len(list(csv.DictReader(io.StringIO(answer.text, newline="")))) == 10
    assert json.loads((await select_audit_rows(admin_db, org_id))[-1].details) == {
        "format": "csv",
        "event": "api_key",
    }
    await make_stale(admin_db)
    answer = await signed_in.get(at(person, "audit.csv"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/prove")


async def test_a_reader_who_leaves_ends_the_export(
    signed_in: Visitor, person: Person, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch is read, then the client closes: no further one is made."""
    batches = []
    ended = trio.Event()

    async def endless(*_: object) -> object:
        try:
            while True:
                batches.append(1)
                yield await select_audit_rows(admin_db, person.organization.org_id)
        finally:
            ended.set()

    monkeypatch.setattr(views, "go_through", endless)
    request = f"GET {at(person, 'audit.jsonl')} HTTP/1.1\r\nHost: localhost\r\n"
    request += f"Cookie: {cookies(signed_in)}\r\n\r\n"
    with trio.fail_after(30):
        async with await trio.open_tcp_stream("127.0.0.1", httpx.URL(signed_in.url).port or 0) as client:
            await client.send_all(request.encode())
            assert (await client.receive_some()).startswith(b"HTTP/1.1 200")
        await ended.wait()
    assert batches


async def test_connection_close_after_an_export(signed_in: Visitor, person: Person, admin_url: str) -> None:
    request = f"GET {at(person, 'audit.jsonl')} HTTP/1.1\r\nHost: localhost\r\n"
    request += f"Cookie: {cookies(signed_in)}\r\n"
    answer = await trio.to_thread.run_sync(
        raw_exchange, admin_url, (request + "Connection: close\r\n\r\n").encode()
    )
    assert answer.endswith(b"0\r\n\r\n")


async def test_a_plan_shows_it_so_far_back(
    signed_in: Visitor, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def tomorrow(plan: Plan, allowance: Allowance) -> datetime:
        asked.append((plan, allowance))
        return datetime.now(UTC) + timedelta(days=1)

    monkeypatch.setattr(views, "shown_since", tomorrow)
    assert "No row matches" in (await signed_in.get(at(person, "audit?since=2020-01-01"))).text
    assert len((await signed_in.get(at(person, "audit.csv"))).text.splitlines()) <= 2
    assert asked == [(Plan.PRO, Allowance.AUDIT_DAYS)] * 2


async def test_the_proof(signed_in: Visitor, person: Person, admin_db: Database, owner_db: Database) -> None:
    org_id: UUID = person.organization.org_id
    assert "None yet" in (await signed_in.get(at(person, "audit/proof"))).text
    signed, _ = await sign_heads(admin_db, await ensure_signing_key(admin_db, ACTOR, MASTER_KEYS))
    page = (await signed_in.submit(at(person, "audit/proof"), {})).text
    rows = await select_audit_rows(admin_db, org_id)
    assert f"Intact: {len(rows)} rows and 1 signed checkpoints" in page
    assert rows[-1].hash.hex() in page
    [checkpoint] = [one for one in signed if one.org_id == org_id]
    assert checkpoint.signature.hex() in page
    await tamper(owner_db, f"UPDATE audit_log SET subject = 'x' WHERE seq = 2 AND org_id = '{org_id}'")
    page = (await signed_in.submit(at(person, "audit/proof"), {})).text
    assert "Not intact: row 2 is not as it was written" in page
