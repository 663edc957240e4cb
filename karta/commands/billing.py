"""`karta billing show | reconcile | settle-report | adjust | set-prepaid`: what organizations have and owe,
and whether it is right."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from karta import database_choice
from karta.commands.budget import picodollars, show_dollars
from karta.commands.usage import moment
from karta.terminal import EXIT_FAILED, CommandError, UsageError, print_json, print_table

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.bridge import Database
    from storage.ledger import Balance
    from storage.reconciliation import Check, Reconciliation

DAYS_DEFAULT = 35
"""A month and some days: what an invoice is made of."""


def register(commands: Commands) -> None:
    group = commands.add_parser("billing", help="credit, charges, and whether they are right")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    shown = actions.add_parser("show", help="what an organization has, and its newest transactions")
    shown.set_defaults(run=run_show)
    reconciled = actions.add_parser(
        "reconcile",
        help="compare requests, their sums and the ledger",
        description="Compare requests, their hourly sums and the ledger, hour by hour; the ledger and what "
        "was reported to Stripe's meter; what was paid by Stripe, went back or was credited, and the ledger. "
        "Where KARTA_STRIPE_API_KEY is set Stripe itself is asked as well, and with KARTA_STRIPE_METER_ID "
        "what its meter counted. Name each difference. Exit code 1 when there is one.",
    )
    reconciled.add_argument("--org", type=UUID, metavar="ORG", help="one organization (default: all)")
    reconciled.add_argument("--since", type=moment, metavar="TIME", help="default: 35 days ago")
    reconciled.add_argument("--until", type=moment, metavar="TIME", help="default: now")
    reconciled.set_defaults(run=run_reconcile)
    settled = actions.add_parser(
        "settle-report",
        help="tell what became of a report to Stripe's meter",
        description="Tell what became of a report to Stripe's meter that was never answered (unsure) or was "
        "refused, after having looked what the meter counted (`reconcile` names both).",
    )
    settled.add_argument("--hour", type=moment, required=True, metavar="TIME", help="the hour it tells of")
    became = settled.add_mutually_exclusive_group(required=True)
    became.add_argument("--arrived", action="store_true", help="the meter has it: it counts as sent")
    became.add_argument("--missing", action="store_true", help="the meter lacks it: it is sent again")
    settled.set_defaults(run=run_settle_report)
    adjusted = actions.add_parser(
        "adjust",
        help="give an organization credit, or take it",
        description="Post an adjustment to the ledger. It never changes; another one takes it back.",
    )
    amount = adjusted.add_mutually_exclusive_group(required=True)
    amount.add_argument("--give-usd", type=picodollars, metavar="AMOUNT")
    amount.add_argument("--take-usd", type=picodollars, metavar="AMOUNT")
    adjusted.add_argument("--note", required=True, help="why; the organization reads it")
    adjusted.add_argument(
        "--reference", help="what keeps it from being posted twice, such as a ticket's number"
    )
    adjusted.set_defaults(run=run_adjust)
    prepaid = actions.add_parser(
        "set-prepaid",
        help="whether an organization pays in advance",
        description="Whether an organization pays in advance. Then requests that would go up with the "
        "platform's provider keys are refused when its credit is spent.",
    )
    prepaid.add_argument("wanted", choices=("on", "off"))
    prepaid.set_defaults(run=run_set_prepaid)
    for action in (shown, settled, adjusted, prepaid):
        action.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    for action in (shown, reconciled, settled, adjusted, prepaid):
        database_choice.add_arguments(action)
        action.add_argument("--json", action="store_true", help="print one JSON document")


def run_show(given: argparse.Namespace) -> None:
    from storage.ledger import select_balance, select_statement
    from storage.organizations import select_organization

    async def select(db: Database) -> None:
        organization = await select_organization(db, given.org)
        balance = await select_balance(db, given.org)
        lines = await select_statement(db, given.org, 20)
        if given.json:
            newest = [
                {
                    "transaction_id": line.transaction_id,
                    "created_at": line.created_at,
                    "kind": line.kind.value,
                    "source": line.source,
                    "note": line.note,
                    "amount_usd": show_signed(line.credit + line.included, sign=""),
                    "balance_usd": show_signed(line.balance, sign=""),
                }
                for line in lines
            ]
            plan = {"org_id": given.org, "plan": organization.plan.value, "prepaid": organization.prepaid}
            print_json(plan | _describe(balance) | {"newest": newest})
            return
        print(
            f"{organization.name}: {organization.plan.value} plan, {show_signed(balance.credit)} of credit, "
            f"{show_signed(balance.included)} included"
        )
        rows = [
            (
                f"{line.created_at:%Y-%m-%d %H:%M}",
                line.kind.value,
                line.note,
                show_signed(line.credit + line.included),
                show_signed(line.balance),
            )
            for line in lines
        ]
        print_table(("TIME", "KIND", "NOTE", "AMOUNT", "BALANCE"), rows)

    database_choice.run(given, select)


def run_reconcile(given: argparse.Namespace) -> None:
    from admin.payments import PaymentsError
    from storage.payment_checks import check_payments, check_reports
    from storage.reconciliation import reconcile

    until = given.until or datetime.now(UTC) + timedelta(hours=1)
    since = given.since or until - timedelta(days=DAYS_DEFAULT)
    if since >= until:
        raise UsageError("--since must be before --until (see `karta billing reconcile --help`)")

    async def compare(db: Database) -> Reconciliation:
        checks = [check_payments, check_reports, *_ask_stripe()]
        try:
            return await reconcile(db, since, until, org_id=given.org, checks=checks)
        except PaymentsError as error:
            raise CommandError(str(error)) from None

    report = database_choice.run(given, compare)
    if given.json:
        print_json(_describe_report(report))
    else:
        _print_report(report)
    if not report.agrees:
        raise SystemExit(EXIT_FAILED)


def _ask_stripe() -> list[Check]:
    """What only Stripe can tell, where it is set up."""
    from storage.settings import read_variables

    variables = read_variables()
    if "KARTA_STRIPE_API_KEY" not in variables:
        return []
    from admin.payment_checks import check_meter, check_objects
    from admin.settings import AdminSettings
    from admin.stripe_payments import StripePayments

    payments = StripePayments(AdminSettings.load(database_url="postgresql://not.used/here"))
    return [check_objects(payments)] + (
        [check_meter(payments)] if "KARTA_STRIPE_METER_ID" in variables else []
    )


def run_settle_report(given: argparse.Namespace) -> None:
    from storage.meter_reports import settle_report

    async def settle(db: Database) -> None:
        await settle_report(db, database_choice.actor(), given.org, given.hour, arrived=given.arrived)

    database_choice.run(given, settle)
    if given.json:
        print_json({"org_id": given.org, "hour": given.hour, "state": "sent" if given.arrived else "waiting"})
    else:
        print("It counts as sent." if given.arrived else "It is sent again within a minute.")


def run_adjust(given: argparse.Namespace) -> None:
    from storage.ledger import adjust, select_balance

    amount = given.give_usd if given.give_usd is not None else -given.take_usd
    source = f"cli:{given.reference or uuid4()}"

    async def change(db: Database) -> tuple[int | None, Balance]:
        async with db.transaction() as tx:
            posted = await adjust(tx, database_choice.actor(), given.org, amount, source, note=given.note)
            return posted, await select_balance(tx, given.org)

    posted, balance = database_choice.run(given, change)
    if given.json:
        print_json({"org_id": given.org, "transaction_id": posted} | _describe(balance))
    else:
        done = "Posted." if posted is not None else "It was posted before."
        print(f"{done} {show_signed(balance.total)} to spend now.")


def run_set_prepaid(given: argparse.Namespace) -> None:
    from storage.usage_charges import set_prepaid

    async def change(db: Database) -> bool:
        return await set_prepaid(db, database_choice.actor(), given.org, given.wanted == "on")

    changed = database_choice.run(given, change)
    if given.json:
        print_json({"org_id": given.org, "prepaid": given.wanted == "on", "changed": changed})
    else:
        state = "It pays in advance" if given.wanted == "on" else "It does not pay in advance"
        print(f"{state}{' from now on' if changed else ', as before'}.")


def show_signed(amount: int, *, sign: str = "$") -> str:
    """An exact amount of dollars, also below zero."""
    return ("-" if amount < 0 else "") + sign + show_dollars(abs(amount)).removeprefix("$")


def _describe(balance: Balance) -> dict[str, object]:
    return {
        "credit_usd": show_signed(balance.credit, sign=""),
        "included_usd": show_signed(balance.included, sign=""),
        "balance_usd": show_signed(balance.total, sign=""),
    }


def _describe_report(report: Reconciliation) -> dict[str, object]:
    differences = [
        {
            "org_id": one.org_id,
            "hour": one.hour,
            "what": one.what,
            "expected": one.expected,
            "found": one.found,
        }
        for one in report.differences
    ]
    return {
        "agrees": report.agrees,
        "since": report.since,
        "until": report.until,
        "organizations": report.organizations,
        "requests": report.requests,
        "billable_requests": report.billable_requests,
        "billable_usd": show_signed(report.billable_picodollars, sign=""),
        "posted_usd": show_signed(report.posted_picodollars, sign=""),
        "open_usd": show_signed(report.open_picodollars, sign=""),
        "reported_usd": show_signed(report.reported_picodollars, sign=""),
        "difference_count": report.difference_count,
        "differences": differences,
    }


def _print_report(report: Reconciliation) -> None:
    print(
        f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC: {report.organizations} "
        f"organizations, {report.requests:,} requests, {report.billable_requests:,} of them by the "
        f"platform's keys for {show_signed(report.billable_picodollars)}; posted "
        f"{show_signed(report.posted_picodollars)}, not due yet {show_signed(report.open_picodollars)}; "
        f"reported to Stripe's meter {show_signed(report.reported_picodollars)}."
    )
    if report.agrees:
        print("Everything agrees.")
        return
    rows = [
        (
            str(one.org_id),
            f"{one.hour:%Y-%m-%dT%H}" if one.hour else "",
            one.what,
            str(one.expected),
            str(one.found),
        )
        for one in report.differences
    ]
    print_table(("ORGANIZATION", "HOUR", "WHAT", "EXPECTED", "FOUND"), rows)
    if report.difference_count > len(rows):
        print(f"… and {report.difference_count - len(rows)} more.")
