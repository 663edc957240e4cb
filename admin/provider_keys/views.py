"""An organization's own provider keys. Whatever changes them needs fresh proof; what is typed is sealed, and
wiped, before anything else is done with it."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, abort, render_template, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, web_session
from admin.providers import PROVIDERS
from admin.redirect import see
from admin.services import services
from storage.credentials import (
    SECRET_BYTES_MIN,
    revoke_credential,
    rotate_credential,
    select_credentials,
    set_credential,
)
from storage.errors import Conflict, InvalidValue, NotFound, PlanRefused
from storage.model import ProviderCredential

PROBLEM = f"A provider key is {SECRET_BYTES_MIN} characters or more, without spaces."
DONE = {
    "set": "The key is sealed and in use.",
    "rotated": "The new key is sealed and in use; the old one was destroyed.",
    "revoked": "The key was revoked and destroyed.",
}

blueprint = Blueprint("provider_keys", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/provider-keys")
async def show(org_id: UUID) -> ResponseReturnValue:
    return await render_template(
        "provider_keys/provider_keys.html",
        credentials=await _live(org_id),
        labels=PROVIDERS,
        allowed=authorization.current_membership().organization.plan.allows_byok,
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/organizations/<uuid:org_id>/provider-keys/new")
async def show_new(org_id: UUID) -> ResponseReturnValue:  # noqa: ARG001
    return await render_template("provider_keys/new.html", providers=PROVIDERS)


@blueprint.post("/organizations/<uuid:org_id>/provider-keys/new")
async def add(org_id: UUID) -> ResponseReturnValue:
    form = await request.form
    provider = form.get("provider", "")
    if provider not in PROVIDERS:
        abort(400)
    try:
        await set_credential(
            services().db,
            web_session.actor(web_session.require_user().user_id),
            services().master_keys,
            org_id=org_id,
            provider=provider,
            secret=_read_secret(form.get("secret", "")),
        )
    except InvalidValue:
        problems = {"secret": PROBLEM}
        page = render_template(
            "provider_keys/new.html", providers=PROVIDERS, provider=provider, problems=problems
        )
        return await page, 422
    except PlanRefused:
        return see(url_for("provider_keys.show", org_id=org_id))
    return see(url_for("provider_keys.show", org_id=org_id, done="set"))


@blueprint.get("/organizations/<uuid:org_id>/provider-keys/<uuid:credential_id>/rotate")
async def show_rotate(org_id: UUID, credential_id: UUID) -> ResponseReturnValue:
    credential = await _require(org_id, credential_id)
    return await render_template("provider_keys/rotate.html", credential=credential, labels=PROVIDERS)


@blueprint.post("/organizations/<uuid:org_id>/provider-keys/<uuid:credential_id>/rotate")
async def rotate(org_id: UUID, credential_id: UUID) -> ResponseReturnValue:
    credential = await _require(org_id, credential_id)
    try:
        await rotate_credential(
            services().db,
            web_session.actor(web_session.require_user().user_id),
            services().master_keys,
            credential_id,
            _read_secret((await request.form).get("secret", "")),
            org_id=org_id,
        )
    except InvalidValue:
        problems = {"secret": PROBLEM}
        page = render_template(
            "provider_keys/rotate.html", credential=credential, labels=PROVIDERS, problems=problems
        )
        return await page, 422
    except (Conflict, PlanRefused):
        return see(url_for("provider_keys.show", org_id=org_id))
    return see(url_for("provider_keys.show", org_id=org_id, done="rotated"))


@blueprint.post("/organizations/<uuid:org_id>/provider-keys/<uuid:credential_id>/revoke")
async def revoke(org_id: UUID, credential_id: UUID) -> ResponseReturnValue:
    actor = web_session.actor(web_session.require_user().user_id)
    try:
        await revoke_credential(services().db, actor, credential_id, org_id=org_id)
    except NotFound:
        abort(404)
    return see(url_for("provider_keys.show", org_id=org_id, done="revoked"))


def _read_secret(text: str) -> bytearray:
    """As bytes that can be wiped; what is no ASCII stays such, and storage refuses it."""
    return bytearray(text.strip().encode("utf-8", "replace"))


async def _live(org_id: UUID) -> list[ProviderCredential]:
    return [one for one in await select_credentials(services().db, org_id) if one.revoked_at is None]


async def _require(org_id: UUID, credential_id: UUID) -> ProviderCredential:
    found = [one for one in await _live(org_id) if one.credential_id == credential_id]
    if not found:
        abort(404)
    return found[0]
