"""Inviting somebody into an organization: the link, and the mail that brings it."""

from __future__ import annotations

from uuid import UUID

from admin import web_session
from admin.services import services
from storage.invitations import invite
from storage.model import Actor, Organization, Role
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


async def send(actor: Actor, organization: Organization, email: str, role: Role) -> UUID:
    """Sends it, in place of an earlier one to the same address; returns its id.

    Raises InvalidValue, Conflict (see `storage.invitations.invite`) and `NoMasterKey`.
    """
    token = web_session.new_token()
    return await invite(
        services().db,
        actor,
        services().master_keys,
        organization.org_id,
        email,
        role,
        web_session.digest(token),
        invitation(email, organization.name, role, f"{services().origin}/invitation/{token}"),
    )
