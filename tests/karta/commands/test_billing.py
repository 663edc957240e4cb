"""`karta billing …` on a real database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

from karta.commands.billing import show_signed
from storage.bridge import open_database
from storage.usage_charges import charge_usage
from storage.usage_rows import insert_usage
from tests.karta.conftest import Document, Karta
from tests.storage.usage_records import usage
from tests.support.postgres import run_in_own_trio


def run(karta: Karta, database_url: str, *arguments: object, code: int = 0) -> Document:
    ended, out, err = karta("billing", *arguments, "--json", "--database-url", database_url)
    assert ended == code, err
    found: Document = json.loads(out)
    return found


async def use(database_url: str, org_id: str, *, charge: bool) -> None:
    at = datetime.now(UTC) - timedelta(hours=3)
    row = usage(org_id=UUID(org_id), started_at=at, credential_kind="platform", credential_id=None)
    async with open_database(database_url, role="karta_gateway") as db:
        await insert_usage(db, [row])
    if charge:
        async with open_database(database_url, role="karta_admin") as db:
            await charge_usage(db)


def test_credit_is_given_shown_and_taken(karta: Karta, database_url: str, org_id: str) -> None:
    org = ("--org", org_id)
    given = run(
        *(karta, database_url, "adjust", *org),
        *("--give-usd", "12.50", "--note", "Welcome", "--reference", "7"),
    )
    assert (given["balance_usd"], given["credit_usd"]) == ("12.50", "12.50")
    code, out, _ = karta(
        *("billing", "adjust", *org, "--give-usd", "12.50", "--note", "Welcome", "--reference", "7"),
        *("--database-url", database_url),
    )
    assert (code, out) == (0, "It was posted before. $12.50 to spend now.\n")
    code, _, err = karta(
        *("billing", "adjust", *org, "--give-usd", "1", "--note", "Other", "--reference", "7"),
        *("--database-url", database_url),
    )
    assert code == 1
    assert "another transaction of that source" in err
    assert (
        run(karta, database_url, "adjust", *org, "--take-usd", "20", "--note", "x")["credit_usd"] == "-7.50"
    )
    shown = run(karta, database_url, "show", *org)
    assert (shown["prepaid"], len(shown["newest"]), shown["newest"][1]["amount_usd"]) == (False, 2, "12.50")
    assert "Welcome" in karta("billing", "show", *org, "--database-url", database_url)[1]
    assert run(karta, database_url, "set-prepaid", *org, "on")["changed"]
    assert not run(karta, database_url, "set-prepaid", *org, "on")["changed"]
    assert run(karta, database_url, "show", *org)["prepaid"]


def test_reconcile_names_what_differs(karta: Karta, database_url: str, org_id: str) -> None:
    run_in_own_trio(lambda: use(database_url, org_id, charge=True))
    told = run(karta, database_url, "reconcile", "--org", org_id)
    assert (told["agrees"], told["requests"], told["posted_usd"]) == (True, 1, "0.0012345")
    assert "Everything agrees." in karta("billing", "reconcile", "--database-url", database_url)[1]
    run_in_own_trio(lambda: use(database_url, org_id, charge=False))
    told = run(karta, database_url, "reconcile", code=1)
    [one] = told["differences"]
    assert one["what"] == "charged for: billable sums and ledger"
    code, out, _ = karta("billing", "reconcile", "--org", org_id, "--database-url", database_url)
    assert code == 1
    assert "charged for" in out
    assert karta("billing", "reconcile", "--since", "2026-02-01", "--until", "2026-01-01")[0] == 2


def test_amounts_below_zero() -> None:
    assert show_signed(-(10**12)) == "-$1.00"
    assert show_signed(5 * 10**11, sign="") == "0.50"


def test_a_report_that_was_never_answered_is_settled(karta: Karta, database_url: str, org_id: str) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    arguments = ("settle-report", "--org", org_id, "--hour", hour.isoformat(), "--arrived")
    assert karta("billing", *arguments, "--database-url", database_url)[0] == 1

    async def lose() -> None:
        async with open_database(database_url, role=None) as db:
            await db.execute(
                "INSERT INTO meter_reports (org_id, hour, customer_id, value, state)"
                " VALUES ($1, $2, 'cus_1', 7, 'unsure')",
                UUID(org_id),
                hour,
            )

    run_in_own_trio(lose)
    told = {"org_id": org_id, "hour": hour.isoformat(), "state": "sent"}
    assert run(karta, database_url, *arguments) == told
    code, _, err = karta("billing", *arguments, "--database-url", database_url)
    assert (code, "is sent" in err) == (1, True)
