"""Asks who somebody is before something sensitive, and goes on with it afterwards.

Whoever has a second factor proves it by that: a password that somebody found out is not enough.
"""

from __future__ import annotations

from quart import Blueprint, request, url_for
from quart.typing import ResponseReturnValue

from admin import passkey_ceremony, throttle, web_session
from admin.passkey_ceremony import CeremonyFailed
from admin.proof import interrupted
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.factors import select_factors
from storage.model import User
from storage.passkeys import ChallengePurpose
from storage.totp import use_totp
from storage.users import record_failed_proof, select_user_by_email

WRONG_PASSWORD = "That is not your password."  # noqa: S105 - shown to people
TOO_LITTLE = "Use your second factor: a password is not enough here."
WRONG_CODE = "That is not the code. Each works once: wait for the next one."
WRONG_PASSKEY = "That passkey did not work. Try again."

blueprint = Blueprint("proof", __name__, template_folder="templates")


async def prompt() -> ResponseReturnValue:
    """Instead of a page that needs fresh proof."""
    await interrupted.keep()
    return see(url_for("proof.show"))


@blueprint.get("/prove")
async def show() -> ResponseReturnValue:
    return await _render()


@blueprint.post("/prove/password")
async def by_password() -> ResponseReturnValue:
    """For those who have nothing stronger."""
    user = await _count()
    found = await select_user_by_email(services().db, user.email)
    password = (await request.form).get("password", "")
    if web_session.require().has_factor:
        return await _refuse(TOO_LITTLE)
    if not await services().passwords.verify(password, found[1] if found else None):
        return await _refuse(WRONG_PASSWORD)
    return await go_on()


@blueprint.post("/prove/code")
async def by_code() -> ResponseReturnValue:
    user = await _count()
    await throttle.count(throttle.CODE_ACCOUNT, str(user.user_id))
    code = (await request.form).get("code", "").replace(" ", "")
    if not await use_totp(services().db, services().master_keys, user.user_id, code):
        return await _refuse(WRONG_CODE)
    await throttle.give_back(throttle.CODE_ACCOUNT, str(user.user_id))
    return await go_on()


@blueprint.post("/prove/passkey")
async def by_passkey() -> ResponseReturnValue:
    user = await _count()
    response = (await request.form).get("response", "")
    try:
        await passkey_ceremony.verify_signature(ChallengePurpose.PROOF, user.user_id, response)
    except CeremonyFailed:
        return await _refuse(WRONG_PASSKEY)
    return await go_on()


async def _count() -> User:
    """The signed-in user, and one more try counted."""
    user = web_session.require_user()
    await throttle.count_address(throttle.PROOF_ADDRESS)
    await throttle.count(throttle.PROOF_ACCOUNT, str(user.user_id))
    return user


async def _refuse(problem: str) -> ResponseReturnValue:
    user_id = web_session.require_user().user_id
    await record_failed_proof(services().db, web_session.actor(user_id), user_id)
    return await _render(problem), 422


async def _render(problem: str | None = None) -> str:
    user = web_session.require_user()
    factors = await select_factors(services().db, user.user_id)
    options = None
    if factors.passkeys:
        options = await passkey_ceremony.signing_options(ChallengePurpose.PROOF, user.user_id)
    return await render_template(
        "proof/prove.html", user=user, factors=factors, options=options, problem=problem
    )


async def go_on() -> ResponseReturnValue:
    """After good proof."""
    await throttle.forgive(throttle.PROOF_ACCOUNT, str(web_session.require_user().user_id))
    response = see(url_for("proof.resume"))
    await web_session.prove(response)
    return response


@blueprint.get("/prove/resume")
async def resume() -> ResponseReturnValue:
    """Back to what was interrupted. A form is shown once more, as one button: a change is never made by
    opening a page."""
    found = await interrupted.find()
    await interrupted.forget()
    if found.fields is None:
        return see(found.path)
    return await render_template("proof/resume.html", path=found.path, fields=found.fields)
