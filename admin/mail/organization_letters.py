"""What is written to members of an organization, and to those who are to become one."""

from __future__ import annotations

from admin.mail.content import Content, Details, Link, Paragraph, line, minute, name
from admin.roles import WHAT_ROLES_DO
from admin.wording import dollars
from storage.letter_kinds import LetterKind
from storage.model import Role
from storage.outbox import Facts

_CHOOSE = Link("/account/mail", "Choose which letters you get")
_PICODOLLARS_PER_CENT = 10**10
_MADE_BY = {"cli": "the command line, as {}", "management_key": "management key {}"}


def invitation(facts: Facts) -> Content:
    role = Role(str(facts["role"]))
    return Content(
        subject="You are invited to an organization on Karta",
        blocks=(
            Paragraph(
                f"You are invited to join the organization “{name(facts['organization'])}” as {role.value} "
                f"({WHAT_ROLES_DO[role]}). Follow this link to join:"
            ),
            Link(str(facts["path"]), "Join the organization"),
            Paragraph("It works once, for 7 days. If you expected nothing of the kind, do nothing."),
        ),
        why="You get this because a member of that organization gave this address to Karta.",
    )


def key_minted(facts: Facts) -> Content:
    successor = facts["successor_of"]
    what = f"A successor of key {line(successor)} was made" if successor else "An API key was minted"
    rows = [
        ("Name", name(facts["name"])),
        ("Key", f"kt_{line(facts['mode'])}_{line(facts['key_id'])}…{line(facts['last_four'])}"),
        ("By", _MADE_BY.get(str(facts["by_kind"]), "{}").format(name(facts["by"]))),
        ("When", minute(facts["at"])),
    ]
    return Content(
        subject=line(
            f"An API key was {'rotated' if successor else 'minted'} for {line(facts['organization'], 60)}"
        ),
        blocks=(
            Paragraph(f"{what} for the organization “{name(facts['organization'])}”:"),
            Details(tuple(rows)),
            Paragraph("If nobody of you did it, revoke it at once:"),
            Link(f"/organizations/{facts['org_id']}/keys/{facts['key_id']}", "Look at the key"),
        ),
        why=_why(facts),
        end=_CHOOSE,
    )


def budget_reached(facts: Facts) -> Content:
    settled, amount = int(str(facts["settled"])), int(str(facts["amount"]))
    whose = f"Key “{name(facts['key_name'] or facts['key_id'])}”" if facts["key_id"] else "All keys together"
    spent = int(str(facts["threshold"])) >= 100
    share = f"{facts['threshold']} %"
    path = f"/organizations/{facts['org_id']}"
    path += f"/keys/{facts['key_id']}/limits" if facts["key_id"] else "/limits"
    return Content(
        subject=line(f"{share} of a budget is used: {line(facts['organization'], 60)}"),
        blocks=(
            Paragraph(
                f"{share} of a budget of the organization “{name(facts['organization'])}” is used."
                + (" What is over a hard budget is refused." if spent else "")
            ),
            Details(
                (
                    ("For", whose),
                    ("Used", dollars(settled)),
                    ("Budget", f"{dollars(amount)}{_per(facts)}"),
                    ("Since", minute(facts["since"])),
                )
            ),
            Link(path, "Look at limits and budgets"),
        ),
        why=_why(facts),
        end=_CHOOSE,
    )


def payment_failed(facts: Facts) -> Content:
    """Of a subscription: the first time, and when it is tried no more."""
    over = facts["state"] == "unpaid"
    what = (
        "Every try to take a payment failed, so it is on the Free plan now."
        if over
        else "A payment failed. It is tried again in the next days, and the plan stays until then."
    )
    rows = [("Organization", name(facts["organization"]))]
    if facts["invoice"]:
        rows.append(("Invoice", line(facts["invoice"])))
    if facts["currency"] == "usd":
        rows.append(("Due", dollars(int(str(facts["due"])) * _PICODOLLARS_PER_CENT)))
    subject = "Payments failed, and the plan ended" if over else "A payment failed"
    return Content(
        subject=line(f"{subject}: {line(facts['organization'], 60)}"),
        blocks=(
            Paragraph(what),
            Details(tuple(rows)),
            Paragraph("Pay the invoice, or change how you pay, here:"),
            Link(f"/organizations/{facts['org_id']}/payments", "Look at payments"),
        ),
        why=f"{_why(facts)} Such letters cannot be switched off.",
    )


def webhook_off(facts: Facts) -> Content:
    gone = facts["cause"] == "gone"
    cause = (
        "It answered 410 Gone, which asks for nothing more."
        if gone
        else f"Every message of the last {facts['failing_days']} days failed."
    )
    return Content(
        subject=line(f"A webhook endpoint was switched off: {line(facts['organization'], 60)}"),
        blocks=(
            Paragraph(
                f"Karta no longer sends webhooks of the organization “{name(facts['organization'])}” to "
                f"{name(facts['host'])}. {cause}"
            ),
            Paragraph(
                "What went wrong is in the endpoint's log. Messages that waited are kept for "
                f"{facts['kept_days']} days, and go out when you switch it on again."
            ),
            Link(f"/organizations/{facts['org_id']}/webhooks/{facts['endpoint_id']}", "Look at the endpoint"),
        ),
        why=_why(facts),
        end=_CHOOSE,
    )


LETTERS = {
    LetterKind.INVITATION: invitation,
    LetterKind.KEY_MINTED: key_minted,
    LetterKind.BUDGET_REACHED: budget_reached,
    LetterKind.PAYMENT_FAILED: payment_failed,
    LetterKind.WEBHOOK_OFF: webhook_off,
}


def _why(facts: Facts) -> str:
    return f"You get this because of your role in the organization “{name(facts['organization'])}”."


def _per(facts: Facts) -> str:
    return f" a {facts['period']}" if facts["period"] else ""
