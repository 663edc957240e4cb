"""Making an organization, its settings, and its end."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, throttle, web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import Conflict
from storage.memberships import create_owned_organization
from storage.organization_end import GRACE, cancel_end, request_end
from storage.organizations import rename, require_mfa

NAME_CHARS_MAX = 200
NAME_PROBLEM = f"A name has 1 to {NAME_CHARS_MAX} characters."
DONE = {
    "renamed": "The name was changed.",
    "mfa": "It was changed.",
    "kept": "The organization is kept.",
}

blueprint = Blueprint("organizations", __name__, template_folder="templates")


def read_name(text: str) -> str | None:
    """A name as it may be kept, or None."""
    name = text.strip()
    return name if 0 < len(name) <= NAME_CHARS_MAX and name.isprintable() else None


@blueprint.get("/organizations/new")
async def show_new() -> ResponseReturnValue:
    return await render_template("organizations/new.html")


@blueprint.post("/organizations/new")
async def create() -> ResponseReturnValue:
    user = web_session.require_user()
    typed = (await request.form).get("name", "")
    name = read_name(typed)
    if name is None:
        page = render_template("organizations/new.html", name=typed, problems={"name": NAME_PROBLEM})
        return await page, 422
    await throttle.count(throttle.NEW_ORGANIZATION_ACCOUNT, str(user.user_id))
    actor = web_session.actor(user.user_id)
    organization = await create_owned_organization(services().db, actor, user.user_id, name)
    return see(url_for("keys.show_organization", org_id=organization.org_id))


@blueprint.get("/organizations/<uuid:org_id>/settings")
async def show_settings(org_id: UUID) -> ResponseReturnValue:  # noqa: ARG001
    return await _render_settings()


@blueprint.post("/organizations/<uuid:org_id>/name")
async def change_name(org_id: UUID) -> ResponseReturnValue:
    name = read_name((await request.form).get("name", ""))
    if name is None:
        return await _render_settings({"name": NAME_PROBLEM}), 422
    user = web_session.require_user()
    await rename(services().db, web_session.actor(user.user_id), org_id, name)
    return see(url_for("organizations.show_settings", org_id=org_id, done="renamed"))


@blueprint.post("/organizations/<uuid:org_id>/mfa")
async def change_mfa(org_id: UUID) -> ResponseReturnValue:
    """Only who has a second factor may require one: nobody locks themselves out."""
    user = web_session.require_user()
    required = (await request.form).get("required") == "yes"
    if required and not web_session.require().has_factor:
        return await _render_settings({"mfa": "Set up a second factor of your own first."}), 422
    await require_mfa(services().db, web_session.actor(user.user_id), org_id, required)
    return see(url_for("organizations.show_settings", org_id=org_id, done="mfa"))


@blueprint.get("/organizations/<uuid:org_id>/delete")
async def show_delete(org_id: UUID) -> ResponseReturnValue:  # noqa: ARG001
    return await render_template("organizations/delete.html", days=GRACE.days)


@blueprint.post("/organizations/<uuid:org_id>/delete")
async def delete(org_id: UUID) -> ResponseReturnValue:
    organization = authorization.current_membership().organization
    if (await request.form).get("name", "").strip() != organization.name.strip():
        problems = {"name": "Type the name as it stands above."}
        return await render_template("organizations/delete.html", days=GRACE.days, problems=problems), 422
    user = web_session.require_user()
    await request_end(services().db, web_session.actor(user.user_id), org_id)
    return see(url_for("keys.show_organization", org_id=org_id))


@blueprint.post("/organizations/<uuid:org_id>/keep")
async def keep(org_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        await cancel_end(services().db, web_session.actor(user.user_id), org_id)
    except Conflict:
        return see(url_for("keys.show_home"))
    return see(url_for("organizations.show_settings", org_id=org_id, done="kept"))


async def _render_settings(problems: dict[str, str] | None = None) -> str:
    done = DONE.get(request.args.get("done", ""))
    return await render_template("organizations/settings.html", problems=problems or {}, done=done)
