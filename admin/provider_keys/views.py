"""An organization's own provider keys. Whatever changes them needs fresh proof; what is typed is sealed, and
wiped, before anything else is kept of it.

A key is tried at its provider first. One that the provider refuses is not taken; where nothing could be told,
the person may keep it untried, and types it once more for that: no page ever holds a key.
"""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, provider_check, throttle, web_session
from admin.provider_check import Verdict
from admin.providers import PROVIDERS
from admin.redirect import see
from admin.rendering import render_template
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
from storage.plans import SUSPENDED_KEPT, Feature, allows
from storage.sealing import PLAINTEXT_BYTES_MAX, wipe

PROBLEM = f"A provider key is {SECRET_BYTES_MIN} characters or more, without spaces."
REFUSED = "The provider does not know that key. Look for a character too many or too few."
UNTOLD = "The provider could not be asked, or did not say whether the key is good."
DONE = {
    "set": "The key is sealed and in use.",
    "accepted": "The provider took the key. It is sealed and in use.",
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
        kept=SUSPENDED_KEPT,
        allowed=allows(authorization.current_membership().organization.plan, Feature.BYOK),
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
    secret = _read_secret(form.get("secret", ""))
    verdict, problem = await _try(provider, secret)
    if problem is None:
        try:
            await set_credential(
                services().db,
                web_session.actor(web_session.require_user().user_id),
                services().master_keys,
                org_id=org_id,
                provider=provider,
                secret=secret,
                verified=verdict is Verdict.ACCEPTED,
            )
        except InvalidValue:
            problem = PROBLEM
        except PlanRefused:
            return see(url_for("provider_keys.show", org_id=org_id))
    if problem is not None:
        page = render_template(
            "provider_keys/new.html",
            providers=PROVIDERS,
            provider=provider,
            problems={"secret": problem},
            untold=verdict is Verdict.UNTOLD,
        )
        return await page, 422
    done = "accepted" if verdict is Verdict.ACCEPTED else "set"
    return see(url_for("provider_keys.show", org_id=org_id, done=done))


@blueprint.get("/organizations/<uuid:org_id>/provider-keys/<uuid:credential_id>/rotate")
async def show_rotate(org_id: UUID, credential_id: UUID) -> ResponseReturnValue:
    credential = await _require(org_id, credential_id)
    return await render_template("provider_keys/rotate.html", credential=credential, labels=PROVIDERS)


@blueprint.post("/organizations/<uuid:org_id>/provider-keys/<uuid:credential_id>/rotate")
async def rotate(org_id: UUID, credential_id: UUID) -> ResponseReturnValue:
    credential = await _require(org_id, credential_id)
    secret = _read_secret((await request.form).get("secret", ""))
    verdict, problem = await _try(credential.provider, secret)
    if problem is None:
        try:
            await rotate_credential(
                services().db,
                web_session.actor(web_session.require_user().user_id),
                services().master_keys,
                credential_id,
                secret,
                org_id=org_id,
                verified=verdict is Verdict.ACCEPTED,
            )
        except InvalidValue:
            problem = PROBLEM
        except (Conflict, PlanRefused):
            return see(url_for("provider_keys.show", org_id=org_id))
    if problem is not None:
        page = render_template(
            "provider_keys/rotate.html",
            credential=credential,
            labels=PROVIDERS,
            problems={"secret": problem},
            untold=verdict is Verdict.UNTOLD,
        )
        return await page, 422
    return see(url_for("provider_keys.show", org_id=org_id, done="rotated"))


@blueprint.post("/organizations/<uuid:org_id>/provider-keys/<uuid:credential_id>/revoke")
async def revoke(org_id: UUID, credential_id: UUID) -> ResponseReturnValue:
    actor = web_session.actor(web_session.require_user().user_id)
    try:
        await revoke_credential(services().db, actor, credential_id, org_id=org_id)
    except NotFound:
        abort(404)
    return see(url_for("provider_keys.show", org_id=org_id, done="revoked"))


async def _try(provider: str, secret: bytearray) -> tuple[Verdict | None, str | None]:
    """What the provider says, and what is wrong then; None twice when the person wants no trial.

    What has no key's shape is sent nowhere: storage refuses it. Wipes a secret that is not to be kept.
    """
    sound = SECRET_BYTES_MIN <= len(secret) <= PLAINTEXT_BYTES_MAX
    if (await request.form).get("untried") == "yes" or not sound:
        return None, None
    user = web_session.require_user()
    await throttle.count(throttle.PROVIDER_TRIAL_ACCOUNT, str(user.user_id))
    verdict = await provider_check.check(services().provider_endpoints.get(provider), secret)
    if verdict is Verdict.ACCEPTED:
        return verdict, None
    wipe(secret)
    return verdict, REFUSED if verdict is Verdict.REFUSED else UNTOLD


def _read_secret(text: str) -> bytearray:
    """As bytes that can be wiped; what is no ASCII stays such, and storage refuses it."""
    return bytearray(text.strip().encode("utf-8", "replace"))


async def _live(org_id: UUID) -> list[ProviderCredential]:
    return await select_credentials(services().db, org_id, live=True)


async def _require(org_id: UUID, credential_id: UUID) -> ProviderCredential:
    found = [one for one in await _live(org_id) if one.credential_id == credential_id]
    if not found:
        abort(404)
    return found[0]
