"""The mails about organizations."""

from __future__ import annotations

from storage.model import Role
from storage.outbox import Letter

WHAT_ROLES_DO = {
    Role.OWNER: "everything, its members and its end too",
    Role.ADMIN: "keys, provider keys, members and settings",
    Role.DEVELOPER: "keys and usage",
    Role.BILLING: "usage, budgets and bills",
    Role.VIEWER: "looks, and changes nothing",
}
"""In a few words, for mails and pages."""


def invitation(recipient: str, organization: str, role: Role, link: str) -> Letter:
    return Letter(
        kind="invitation",
        recipient=recipient,
        subject="You are invited to an organization on Karta",
        text=f"You are invited to join the organization “{organization}” as {role.value} "
        f"({WHAT_ROLES_DO[role]}).\n\nFollow this link to join:\n\n{link}\n\n"
        "It works once, for 7 days. If you expected nothing of the kind, do nothing.\n\nKarta\n",
    )
