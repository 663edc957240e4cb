"""Shows the mail that waits to be sent: in development, to this machine alone. Each letter as text, and by
itself as HTML."""

from __future__ import annotations

import ipaddress
from uuid import UUID

from quart import Blueprint, abort, request
from quart.typing import ResponseReturnValue

from admin import client_address, transport
from admin.mail.rendering import Mail, NotALetter, content_security_policy, render
from admin.rendering import render_template
from admin.services import services
from storage.errors import NotFound
from storage.outbox import Message, select_message, select_waiting

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
    waiting = await select_waiting(services().db, services().master_keys)
    return await render_template(
        "outbox/outbox.html",
        messages=[(message, _render(message)) for message in waiting],
        sends=services().settings.sends_mail,
    )


@blueprint.get("/outbox/<uuid:message_id>")
async def show_html(message_id: UUID) -> ResponseReturnValue:
    """A letter as a mail program shows it: in a sandbox, with its own style sheet and nothing else."""
    if not is_shown():
        abort(404)
    try:
        message = await select_message(services().db, services().master_keys, message_id)
    except NotFound:
        abort(404)
    mail = _render(message)
    if mail is None:
        abort(404)
    transport.set_policy(content_security_policy())
    return mail.html


def _render(message: Message) -> Mail | None:
    try:
        return None if message.letter is None else render(message.letter, services().origin)
    except NotALetter:
        return None
