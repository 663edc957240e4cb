"""Inviting somebody into an organization: the link, and the mail that brings it."""

from __future__ import annotations

from admin import web_session
from admin.services import services
from storage.invitations import Invitation, invite
from storage.letter_kinds import LetterKind
from storage.model import Actor, Organization, Role
from storage.outbox import Letter


async def send(actor: Actor, organization: Organization, email: str, role: Role) -> Invitation:
    """Sends it, in place of an earlier one to the same address.

    Raises InvalidValue, Conflict (see `storage.invitations.invite`) and `NoMasterKey`.
    """
    token = web_session.new_token()
    facts = {"organization": organization.name, "role": role.value, "path": f"/invitation/{token}"}
    return await invite(
        services().db,
        actor,
        services().master_keys,
        organization.org_id,
        email,
        role,
        web_session.digest(token),
        Letter(kind=LetterKind.INVITATION, recipient=email, facts=facts),
    )
