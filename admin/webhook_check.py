"""Whether a URL may be registered, in words for who gave it: the same for pages and programs.

It is asked again at each delivery: a name may stand for something else by then.
"""

from __future__ import annotations

from admin.services import services
from admin.webhooks.dialing import Undelivered
from admin.webhooks.safe_address import UnsafeURL

_WORDS = {
    "no_name": "That name cannot be found. Check its spelling, or wait until it is known.",
    "unsafe_address": "That name does not stand for addresses of the public internet alone.",
}


async def find_problem(url: str) -> str | None:
    """A sentence; None for a URL that can be called."""
    try:
        await services().webhooks.check(url)
    except UnsafeURL as error:
        text = str(error)
        return f"{text[:1].upper()}{text[1:]}."
    except Undelivered as error:
        return _WORDS[error.reason]
    return None
