"""The organization's own provider keys. What is sent is sealed, and never in an answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from admin import provider_check, throttle
from admin.management_api import cursors
from admin.management_api.call import Call
from admin.management_api.forms import NewProviderKey, NewSecret, Page, ProviderKeyPage
from admin.management_api.values import invalid, require_choice
from admin.provider_check import Verdict
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
    provider = require_choice(call.body.provider, PROVIDERS, "$.provider")
    return await set_credential(
        call.db,
        call.actor,
        services().master_keys,
        org_id=call.org_id,
        provider=provider,
        verified=await _try(call, provider, call.body),
        secret=bytearray(call.body.secret.encode()),
    )


async def rotate_provider_key(call: Call[NewSecret, None]) -> ProviderCredential:
    credential_id = call.path["credential_id"]
    found = [
        one
        for one in await select_credentials(call.db, call.org_id, live=True)
        if one.credential_id == credential_id
    ]
    # Of a revoked one storage says so itself, and nothing is tried.
    verified = bool(found) and await _try(call, found[0].provider, call.body)
    return await rotate_credential(
        call.db,
        call.actor,
        services().master_keys,
        credential_id,
        bytearray(call.body.secret.encode()),
        org_id=call.org_id,
        verified=verified,
    )


async def revoke_provider_key(call: Call[None, None]) -> ProviderCredential:
    return await revoke_credential(call.db, call.actor, call.path["credential_id"], org_id=call.org_id)


async def _try(call: Call[Any, None], provider: str, asked: NewProviderKey | NewSecret) -> bool:
    """Whether the provider took the key; False where it was not to be asked. Raises `Problem` for a key that
    is not to be kept."""
    if asked.untried:
        return False
    # With the pages' trials together: the answer sorts stolen keys, too.
    await throttle.count(throttle.PROVIDER_TRIAL_ACCOUNT, str(call.acting.key.user_id))
    verdict = await provider_check.check(services().provider_endpoints.get(provider), asked.secret.encode())
    if verdict is Verdict.REFUSED:
        raise invalid("The provider does not know that key.", "$.secret")
    if verdict is Verdict.UNTOLD:
        raise invalid("The provider could not be asked: send `untried` to keep it all the same.", "$.secret")
    return True
