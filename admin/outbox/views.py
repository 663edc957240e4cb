"""Shows the mail that waits to be sent, where nothing sends it: in development, to this machine alone."""

from __future__ import annotations

import ipaddress

from quart import Blueprint, abort, request
from quart.typing import ResponseReturnValue

from admin import client_address
from admin.rendering import render_template
from admin.services import services
from storage.outbox import select_waiting

blueprint = Blueprint("outbox", __name__, template_folder="templates")


def is_shown() -> bool:
    """Whether this request may see the outbox: it holds links that open accounts."""
    settings = services().settings
    if settings.env != "development" or not settings.admin_bind.is_loopback:
        return False
    try:
        address = ipaddress.ip_address(client_address.address(request, settings.trusted_proxies) or "")
    except ValueError:
        return False
    return address.is_loopback


@blueprint.get("/outbox")
async def show() -> ResponseReturnValue:
    if not is_shown():
        abort(404)
    messages = await select_waiting(services().db, services().master_keys)
    return await render_template("outbox/outbox.html", messages=messages)
