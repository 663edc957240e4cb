"""API keys. A key is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from typing import Any

from admin import throttle
from admin.management_api import cursors
from admin.management_api.call import Call
from admin.management_api.forms import APIKeyPage, MintedAPIKey, NewAPIKey, NewScope, Page, Rotation
from admin.management_api.problems import sentence
from admin.management_api.values import invalid, require_future, require_name, require_printable
from storage.api_keys import mint_key, revoke_key, rotate_key, select_key, select_keys
from storage.errors import InvalidValue
from storage.key_scopes import parse_endpoints, parse_networks, set_scope
from storage.model import APIKey, KeyScope


async def list_api_keys(call: Call[None, Page]) -> APIKeyPage:
    after = cursors.read("api_keys", call.query.cursor, str)
    found = await select_keys(call.db, call.org_id, call.query.limit + 1, after)
    items, following = cursors.cut(found, call.query.limit, "api_keys", lambda key: key.key_id)
    return APIKeyPage(items=items, next_cursor=following)


async def get_api_key(call: Call[Any, None]) -> APIKey:
    return await select_key(call.db, call.org_id, call.path["key_id"])


async def mint_api_key(call: Call[NewAPIKey, None]) -> MintedAPIKey:
    asked = call.body
    name = require_name(asked.name, "$.name")
    expires_at = require_future(asked.expires_at, "$.expires_at")
    scope = _read_scope(asked)
    await throttle.count(throttle.API_MINT_KEY, call.acting.key.key_id)
    key, token = await mint_key(
        call.db,
        call.actor,
        org_id=call.org_id,
        name=name,
        mode=asked.mode,
        expires_at=expires_at,
        allowed_models=scope.models,
        allowed_endpoints=scope.endpoints,
        allowed_networks=scope.networks,
    )
    return MintedAPIKey(api_key=key, key=token)


async def set_api_key_scope(call: Call[NewScope, None]) -> APIKey:
    await set_scope(call.db, call.actor, call.org_id, call.path["key_id"], _read_scope(call.body))
    return await get_api_key(call)


async def rotate_api_key(call: Call[Rotation, None]) -> MintedAPIKey:
    # Asked first, so that what cannot be rotated costs no bcrypt.
    await select_key(call.db, call.org_id, call.path["key_id"])
    await throttle.count(throttle.API_MINT_KEY, call.acting.key.key_id)
    key, token = await rotate_key(
        call.db, call.actor, call.path["key_id"], call.body.overlap_seconds, org_id=call.org_id
    )
    return MintedAPIKey(api_key=key, key=token)


async def revoke_api_key(call: Call[None, None]) -> APIKey:
    return await revoke_key(call.db, call.actor, call.path["key_id"], org_id=call.org_id)


def _read_scope(asked: NewAPIKey | NewScope) -> KeyScope:
    """Raises `Problem`."""
    for number, model in enumerate(asked.allowed_models or ()):
        require_printable(model, f"$.allowed_models[{number}]")
    try:
        endpoints = parse_endpoints(asked.allowed_endpoints or ())
    except InvalidValue as error:
        raise invalid(sentence(error), "$.allowed_endpoints") from None
    try:
        networks = parse_networks(asked.allowed_networks or ())
    except InvalidValue as error:
        raise invalid(sentence(error), "$.allowed_networks") from None
    models = None if asked.allowed_models is None else tuple(asked.allowed_models)
    return KeyScope(models=models, endpoints=endpoints, networks=networks)
