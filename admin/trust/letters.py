"""The mails of the trust pages."""

from __future__ import annotations

from admin.trust.sub_processors import SubProcessors
from storage.outbox import Letter

_CHANGES_TOLD = 5


def confirm_subscription(recipient: str, link: str) -> Letter:
    return Letter(
        kind="subscription_confirm",
        recipient=recipient,
        subject="Confirm: tell me when Karta's sub-processors change",
        text="Follow this link to be told by mail when the list of sub-processors changes:\n\n"
        f"{link}\n\nIt works for seven days. If it was not you who asked, do nothing.\n\nKarta\n",
    )


def changed(recipient: str, found: SubProcessors, page: str, end_link: str) -> Letter:
    told = "\n".join(f"{one.date.isoformat()}: {one.change}" for one in found.history[:_CHANGES_TOLD])
    return Letter(
        kind="sub_processors_changed",
        recipient=recipient,
        subject="Karta's sub-processors have changed",
        text=f"The list of sub-processors has changed. Its newest entries:\n\n{told}\n\n"
        f"The whole list:\n\n{page}\n\nTo be told no more:\n\n{end_link}\n\nKarta\n",
    )


def abuse_reported(recipient: str, reference: str, category: str, report: str, email: str | None) -> Letter:
    """To those who look after reports. What a stranger wrote is quoted, each line of it."""
    quoted = "\n".join(f"> {line}" for line in report.splitlines())
    return Letter(
        kind="abuse_reported",
        recipient=recipient,
        subject=f"Abuse report {reference}",
        text=f"Reference: {reference}\nCategory: {category}\nFrom: {email or 'not given'}\n\n{quoted}\n",
    )
