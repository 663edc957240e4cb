"""The answer to a form: what is at another place, now to be fetched by GET."""

from __future__ import annotations

from quart_trio.wrappers import TrioResponse


def see(location: str) -> TrioResponse:
    return TrioResponse("", status=303, headers={"Location": location})
