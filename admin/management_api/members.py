"""Members and invitations. Owners are out of a key's reach: it can neither make, change nor remove one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from admin import inviting, throttle
from admin.management_api import cursors
from admin.management_api.call import Call
from admin.management_api.forms import Done, InvitationPage, MemberPage, NewInvitation, Page, RoleChange
from admin.management_api.values import invalid
from storage.errors import InvalidValue
from storage.invitations import Invitation, select_invitations, withdraw_invitation
from storage.memberships import change_role, remove_member, select_members
from storage.model import Role
from storage.users import normalize_email


async def list_members(call: Call[None, Page]) -> MemberPage:
    after = cursors.read("members", call.query.cursor, tuple[datetime, UUID])
    found = await select_members(call.db, call.org_id, call.query.limit + 1, after)
    items, following = cursors.cut(
        found, call.query.limit, "members", lambda member: (member.since, member.user_id)
    )
    return MemberPage(items=items, next_cursor=following)


async def change_member_role(call: Call[RoleChange, None]) -> Done:
    by, role = call.acting.key.user_id, Role(call.body.role)
    await change_role(call.db, call.actor, call.org_id, by, call.path["user_id"], role, by_key=True)
    return Done()


async def remove_member_by_id(call: Call[None, None]) -> Done:
    by = call.acting.key.user_id
    await remove_member(call.db, call.actor, call.org_id, by, call.path["user_id"], by_key=True)
    return Done()


async def list_invitations(call: Call[None, Page]) -> InvitationPage:
    after = cursors.read("invitations", call.query.cursor, tuple[datetime, UUID])
    # Few, by their own bound: so a page is cut from all of them.
    found = sorted(await select_invitations(call.db, call.org_id), key=_place)
    rest = [one for one in found if after is None or _place(one) > after]
    items, following = cursors.cut(rest, call.query.limit, "invitations", _place)
    return InvitationPage(items=items, next_cursor=following)


async def create_invitation(call: Call[NewInvitation, None]) -> Invitation:
    try:
        email = normalize_email(call.body.email)
    except InvalidValue:
        raise invalid("That is not an email address.", "$.email") from None
    await throttle.count(throttle.API_INVITE_KEY, call.acting.key.key_id)
    return await inviting.send(call.actor, call.acting.organization, email, Role(call.body.role))


async def withdraw_invitation_by_id(call: Call[None, None]) -> Done:
    await withdraw_invitation(call.db, call.actor, call.org_id, call.path["invitation_id"])
    return Done()


def _place(invitation: Invitation) -> tuple[datetime, UUID]:
    return invitation.created_at, invitation.invitation_id
