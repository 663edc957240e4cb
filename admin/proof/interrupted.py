"""What a prompt for proof interrupted, kept with the session so that it can go on afterwards.

Of a form only what may be shown again is kept. Where a field was a secret, the form's own page is opened
again instead.
"""

from __future__ import annotations

import msgspec
from quart import request

from admin import csrf, web_session
from admin.local_path import local_path
from admin.services import services
from storage.sessions import keep_interrupted, select_interrupted

SECRET_FIELDS = frozenset({"password", "secret", "code", "response"})
KEPT_BYTES_MAX = 8000
"""What the column holds; no form of ours comes near."""


class Interrupted(msgspec.Struct, frozen=True):
    """Where to go on. Fields are None for a page that was only to be opened.

    Of a field that comes more than once there is a list. A single value stands by itself, as older code keeps
    and reads it, which runs beside this while an upgrade is under way.
    """

    path: str
    fields: dict[str, str | list[str]] | None = None


async def keep() -> None:
    """Keeps the current request."""
    if request.method in csrf.SAFE_METHODS:
        interrupted = Interrupted(local_path(request.full_path.rstrip("?")))
    else:
        form = await request.form
        fields: dict[str, str | list[str]] = {
            name: values[0] if len(values) == 1 else values
            for name, values in form.lists()
            if name != csrf.FIELD
        }
        interrupted = Interrupted(local_path(request.path), fields)
        if SECRET_FIELDS & fields.keys():
            interrupted = Interrupted(_page_of_form())
    kept = msgspec.json.encode(interrupted)
    if len(kept) > KEPT_BYTES_MAX:
        kept = msgspec.json.encode(Interrupted(_page_of_form()))
    await keep_interrupted(services().db, web_session.session_digest(), kept.decode())


async def find() -> Interrupted:
    """What was kept; the start page when nothing was."""
    kept = await select_interrupted(services().db, web_session.session_digest())
    return Interrupted("/") if kept is None else msgspec.json.decode(kept, type=Interrupted)


async def forget() -> None:
    await keep_interrupted(services().db, web_session.session_digest(), None)


def _page_of_form() -> str:
    """Where the form was, as the browser says; of our own site only."""
    here = request.url_root.rstrip("/")
    came_from = request.headers.get("Referer", "")
    return local_path(came_from.removeprefix(here)) if came_from.startswith(here + "/") else "/"
