"""Asking for a link by mail, as it is done for a new account and for a new password: the page says the same
of every address, after the same time. What differs is data.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from quart import request, url_for
from quart.typing import ResponseReturnValue

from admin import throttle, web_session
from admin.accounts import links
from admin.accounts.steady_time import steady_time
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.accounts import Letters
from storage.bridge import Database
from storage.email_links import LinkPurpose
from storage.errors import InvalidValue
from storage.model import Actor
from storage.sealing import MasterKeys
from storage.throttles import Rule
from storage.users import normalize_email

NO_ADDRESS = "That is not an email address."


class Asking(NamedTuple):
    """One thing that is asked for."""

    purpose: LinkPurpose
    by_address: Rule
    by_account: Rule
    page: str
    """The template with the form."""
    sent: str
    """The endpoint that says to look at one's mail."""
    write: Callable[[str, str], Letters]
    """From the address and the link's path."""
    post: Callable[[Database, Actor, MasterKeys, str, bytes, Letters], Awaitable[None]]


async def ask(asking: Asking) -> ResponseReturnValue:
    """Answers the form. Raises `Throttled`."""
    await throttle.count_address(asking.by_address)
    try:
        email = normalize_email((await request.form).get("email", ""))
    except InvalidValue:
        return await render_template(asking.page, problem=NO_ADDRESS), 422
    async with steady_time():
        await throttle.count(asking.by_account, email)
        token = web_session.new_token()
        told = asking.write(email, links.make(asking.purpose, token))
        actor, digest = web_session.actor(None), web_session.digest(token)
        await asking.post(services().db, actor, services().master_keys, email, digest, told)
    return see(url_for(asking.sent))
