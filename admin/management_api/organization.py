"""The key that asks, and its organization."""

from __future__ import annotations

from admin.management_api.call import Call
from admin.management_api.forms import ManagementKeyAnswer, Renaming
from admin.management_api.values import require_name
from storage.model import Organization
from storage.organizations import rename


async def get_management_key(call: Call[None, None]) -> ManagementKeyAnswer:
    key = call.acting.key
    return ManagementKeyAnswer(
        key_id=key.key_id,
        org_id=key.org_id,
        name=key.name,
        scopes=sorted(key.scopes),
        role=key.role,
        current_role=call.acting.current_role,
        created_at=key.created_at,
        expires_at=key.expires_at,
    )


async def get_organization(call: Call[None, None]) -> Organization:
    return call.acting.organization


async def rename_organization(call: Call[Renaming, None]) -> Organization:
    return await rename(call.db, call.actor, call.org_id, require_name(call.body.name, "$.name"))
