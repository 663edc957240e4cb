"""The organization's own provider keys. What is sent is sealed, and never in an answer."""

from __future__ import annotations

from uuid import UUID

from admin.management_api import cursors
from admin.management_api.call import Call
from admin.management_api.forms import NewProviderKey, NewSecret, Page, ProviderKeyPage
from admin.management_api.values import require_choice
from admin.providers import PROVIDERS
from admin.services import services
from storage.credentials import revoke_credential, rotate_credential, select_credentials, set_credential
from storage.model import ProviderCredential


async def list_provider_keys(call: Call[None, Page]) -> ProviderKeyPage:
    after = cursors.read("provider_keys", call.query.cursor, UUID)
    found = await select_credentials(call.db, call.org_id, call.query.limit + 1, after)
    items, following = cursors.cut(found, call.query.limit, "provider_keys", lambda one: one.credential_id)
    return ProviderKeyPage(items=items, next_cursor=following)


async def set_provider_key(call: Call[NewProviderKey, None]) -> ProviderCredential:
    return await set_credential(
        call.db,
        call.actor,
        services().master_keys,
        org_id=call.org_id,
        provider=require_choice(call.body.provider, PROVIDERS, "$.provider"),
        secret=bytearray(call.body.secret.encode()),
    )


async def rotate_provider_key(call: Call[NewSecret, None]) -> ProviderCredential:
    return await rotate_credential(
        call.db,
        call.actor,
        services().master_keys,
        call.path["credential_id"],
        bytearray(call.body.secret.encode()),
        org_id=call.org_id,
    )


async def revoke_provider_key(call: Call[None, None]) -> ProviderCredential:
    return await revoke_credential(call.db, call.actor, call.path["credential_id"], org_id=call.org_id)
