"""An organization's page: its plan, its keys, and what to do next."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from quart import Blueprint, redirect, render_template, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, web_session
from admin.services import services
from storage.api_keys import select_keys
from storage.model import APIKey, Organization, Role
from storage.organizations import select_organizations_by_user

KEYS_SHOWN_MAX = 500
"""More would make a page nobody reads; the command line lists them all."""

blueprint = Blueprint("keys", __name__, template_folder="templates")


@blueprint.get("/")
async def show_home() -> ResponseReturnValue:
    """The user's first organization."""
    memberships = await _memberships()
    if not memberships:
        return await render_template("keys/no_organization.html")
    first, _ = memberships[0]
    return redirect(url_for("keys.show_organization", org_id=first.org_id), code=303)


@blueprint.get("/organizations/<uuid:org_id>")
async def show_organization(org_id: UUID) -> ResponseReturnValue:
    _, role = authorization.current_membership()
    keys = await select_keys(services().db, org_id, KEYS_SHOWN_MAX)
    return await render_template(
        "keys/organization.html",
        role=role,
        keys=list(reversed(keys)),
        gateway_url=services().settings.public_url or "http://127.0.0.1:8080",
        never_used=all(key.last_used_at is None for key in keys),
    )


async def _memberships() -> list[tuple[Organization, Role]]:
    return await select_organizations_by_user(services().db, web_session.require_user().user_id)


@blueprint.app_template_filter("status")
def status(key: APIKey) -> str:
    """`active`, `expired` or `revoked`: shown, and a class of the style sheet."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "active"
