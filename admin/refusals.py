"""What is refused for who asks, or how often, is logged: somebody who tries doors is seen.

One line each, with who it was, from where, and which endpoint; never a path, a form or a name, which a
stranger could fill. A flood is cut off at so many lines a minute, and it is told that there were more.
"""

from __future__ import annotations

import logging
from time import monotonic

from quart import Response, g, request

from admin import api_path, client_address
from admin.services import services

REFUSED = frozenset({401, 403, 421, 429})
PER_MINUTE_MAX = 100
_log = logging.getLogger("karta.admin")


class _Minute:
    """The present one, and what was refused in it."""

    number = -1
    refused = 0


async def note(response: Response) -> Response:
    """After each request: logs that it was refused, if it was."""
    if response.status_code not in REFUSED:
        return response
    minute = int(monotonic() // 60)
    if _Minute.number != minute:
        if _Minute.refused > PER_MINUTE_MAX:
            _log.warning("refused: %d more in a minute", _Minute.refused - PER_MINUTE_MAX)
        _Minute.number, _Minute.refused = minute, 0
    _Minute.refused += 1
    if _Minute.refused <= PER_MINUTE_MAX:
        address = client_address.address(request, services().settings.trusted_proxies)
        _log.warning(
            "refused: %d for %s by %s from %s", response.status_code, request.endpoint, _whose(), address
        )
    return response


def _whose() -> str:
    if api_path.is_api():
        acting = g.get("acting")
        return "nobody known" if acting is None else f"management key {acting.key.key_id}"
    signed_in = g.get("signed_in")
    return "nobody known" if signed_in is None else f"user {signed_in.user.user_id}"
