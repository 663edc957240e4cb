"""Asks who somebody is before something sensitive, and goes on with it afterwards."""

from __future__ import annotations

from quart import Blueprint, render_template, request, url_for
from quart.typing import ResponseReturnValue

from admin import throttle, web_session
from admin.proof import interrupted
from admin.redirect import see
from admin.services import services
from storage.users import record_failed_proof, select_user_by_email

WRONG_PASSWORD = "That is not your password."  # noqa: S105 - shown to people

blueprint = Blueprint("proof", __name__, template_folder="templates")


async def prompt() -> ResponseReturnValue:
    """Instead of a page that needs fresh proof."""
    await interrupted.keep()
    return see(url_for("proof.show"))


@blueprint.get("/prove")
async def show() -> ResponseReturnValue:
    return await render_template("proof/prove.html", user=web_session.require_user())


@blueprint.post("/prove/password")
async def by_password() -> ResponseReturnValue:
    user = web_session.require_user()
    await throttle.count_address(throttle.PROOF_ADDRESS)
    await throttle.count(throttle.PROOF_ACCOUNT, str(user.user_id))
    found = await select_user_by_email(services().db, user.email)
    password = (await request.form).get("password", "")
    if not await services().passwords.verify(password, found[1] if found else None):
        await record_failed_proof(services().db, web_session.actor(user.user_id), user.user_id)
        return await render_template("proof/prove.html", user=user, problem=WRONG_PASSWORD), 422
    return await go_on()


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
