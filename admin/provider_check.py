"""Tries a provider's key at the provider, before it is kept: one cheap request that costs nothing there.

The answer is one of three. `ACCEPTED`: the provider let it in. `REFUSED`: the provider says that it knows no
such key. `UNTOLD`: anything else, from a provider that could not be reached to one that has no such page;
whether the key is kept then is for the person to say.

Bounds: so many trials at once, so long for all of one; of the answer only its status is read. Redirects are
not followed and no proxy of the environment is used, so the key goes to the one host the operator named,
whose certificate is always checked.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import httpx
import trio
from trio.lowlevel import RunVar

SECONDS_MAX = 8.0
"""Somebody waits in front of a form."""
TRIALS_MAX = 8
"""At once, of one process; more wait, within their time."""
_limiter: RunVar[trio.CapacityLimiter] = RunVar("karta provider trials")


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNTOLD = "untold"


class Endpoint(NamedTuple):
    """Where and how to try a key of one provider."""

    url: str
    header: str
    """The name of the header the key goes in."""
    scheme: str = ""
    """What stands before the key in it: `Bearer `, or nothing."""
    headers: Mapping[str, str] = {}
    """Others that the provider wants."""
    ca_file: str | None = None
    """The authority of a private endpoint, in PEM."""


async def check(endpoint: Endpoint | None, secret: bytes | bytearray) -> Verdict:
    """Tries the key. Without an endpoint nothing can be told. Never raises for what the provider does."""
    if endpoint is None or not all(0x21 <= byte <= 0x7E for byte in secret):
        return Verdict.UNTOLD
    try:
        with trio.fail_after(SECONDS_MAX):
            async with _limit():
                return _judge(await _ask(endpoint, secret.decode("ascii")))
    except (httpx.HTTPError, trio.TooSlowError, OSError):
        return Verdict.UNTOLD


async def _ask(endpoint: Endpoint, secret: str) -> int:
    headers = {**endpoint.headers, endpoint.header: endpoint.scheme + secret}
    verify = ssl.create_default_context(cafile=endpoint.ca_file)
    async with (
        httpx.AsyncClient(verify=verify, trust_env=False, follow_redirects=False, timeout=None) as client,  # noqa: S113 - the caller bounds all of it
        client.stream("GET", endpoint.url, headers=headers) as response,
    ):
        return response.status_code


def _judge(status: int) -> Verdict:
    if 200 <= status < 300:
        return Verdict.ACCEPTED
    # 403 is said of good keys, too, that may do only this or that.
    return Verdict.REFUSED if status == httpx.codes.UNAUTHORIZED else Verdict.UNTOLD


def _limit() -> trio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(TRIALS_MAX)
        _limiter.set(limiter)
        return limiter
