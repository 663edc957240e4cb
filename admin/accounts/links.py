"""Links that came by mail. Following one puts its token into a cookie and goes on to a clean address, so that
the token stays neither in the history nor in a Referer.

Nothing is spent by following a link, since mail programs follow links too: the page it leads to has a button.
"""

from __future__ import annotations

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import throttle, web_session
from admin.redirect import see
from admin.services import services
from storage.email_links import EmailLink, LinkPurpose, select_link
from storage.errors import NotFound

COOKIE = "__Host-karta-link"
PAGES = {
    LinkPurpose.SIGN_UP: "sign_up.show_confirm",
    LinkPurpose.RESET_PASSWORD: "reset.show_confirm",
    LinkPurpose.CHANGE_EMAIL: "profile.show_confirm_email",
}

blueprint = Blueprint("links", __name__)


def make(purpose: LinkPurpose, token: str) -> str:
    """The path that goes into the mail."""
    return f"/link/{purpose.value.replace('_', '-')}/{token}"


@blueprint.get("/link/<purpose>/<token>")
async def follow(purpose: str, token: str) -> ResponseReturnValue:
    await throttle.count_address(throttle.LINK_ADDRESS)
    try:
        page = PAGES[LinkPurpose(purpose.replace("-", "_"))]
    except ValueError:
        abort(404)
    response = see(url_for(page))
    if len(token) <= web_session.TOKEN_CHARS_MAX:
        web_session.set_cookie(response, COOKIE, token)
    return response


def token_digest() -> bytes:
    """Of the link that this browser followed last."""
    return web_session.digest(web_session.read_cookie(COOKIE) or "")


async def find(purpose: LinkPurpose) -> EmailLink | None:
    """The link that was followed, unspent; None when it does not work (any more)."""
    if COOKIE not in request.cookies:
        return None
    try:
        return await select_link(services().db, purpose, token_digest())
    except NotFound:
        return None
