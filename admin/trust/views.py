"""The pages anybody may read: cacheable, without a cookie, and without the database where possible."""

from __future__ import annotations

from datetime import UTC, datetime

from quart import Blueprint, Response, redirect, url_for
from quart.typing import ResponseReturnValue

from admin import transport
from admin.rendering import render_template
from admin.services import services
from admin.trust import security_txt
from admin.trust.promises import promises
from storage.audit_checkpoints import PublicKey, select_public_keys
from storage.errors import StorageError

PAGE_SECONDS = 300
DAY_SECONDS = 24 * 3600

blueprint = Blueprint("trust", __name__, template_folder="templates")


@blueprint.get("/security")
async def show_security() -> ResponseReturnValue:
    transport.make_public(PAGE_SECONDS)
    return await render_template(
        "trust/security.html", promises=promises(services().settings), keys=await _public_keys()
    )


async def _public_keys() -> list[PublicKey]:
    """None where the database is away: the page does not depend on it."""
    try:
        return await select_public_keys(services().db)
    except StorageError:
        return []


@blueprint.get("/security/policy")
async def show_policy() -> ResponseReturnValue:
    transport.make_public(PAGE_SECONDS)
    return await render_template("trust/policy.html", contact=contacts()[0])


@blueprint.get("/compliance")
async def show_compliance() -> ResponseReturnValue:
    transport.make_public(PAGE_SECONDS)
    return await render_template("trust/compliance.html")


@blueprint.get("/subprocessors")
async def show_sub_processors() -> ResponseReturnValue:
    transport.make_public(PAGE_SECONDS)
    return await render_template("trust/sub_processors.html", found=services().sub_processors.read())


@blueprint.get("/.well-known/security.txt")
async def show_security_txt() -> ResponseReturnValue:
    transport.make_public(DAY_SECONDS)
    now, signed = datetime.now(UTC), services().settings.load_security_txt()
    if signed is not None and signed.expires > now:
        # Caches keep it no longer than it is good for.
        transport.make_public(min(DAY_SECONDS, int((signed.expires - now).total_seconds())))
        return Response(signed.content, content_type="text/plain; charset=utf-8")
    text = security_txt.write(services().origin, contacts(), now)
    return Response(text, content_type="text/plain; charset=utf-8")


@blueprint.get("/security.txt")
async def follow_security_txt() -> ResponseReturnValue:
    return redirect(url_for("trust.show_security_txt"), code=301)


def contacts() -> list[str]:
    """URIs of whom to tell of a weakness, the preferred one first."""
    chosen = services().settings.security_contact
    form = services().origin + url_for("abuse.show")
    if chosen is None:
        return [form]
    return [chosen if chosen.startswith("https://") else f"mailto:{chosen}", form]
