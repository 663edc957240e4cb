"""In what order targets are asked, and what is told of it (`test_tries` and `websocket/test_handshake` have
it over real sockets)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from gateway.dial import Busy, NotConnected, Pools, Untrusted
from gateway.refusal import Kind, Refusal
from gateway.response_reader import UpstreamBroken
from gateway.retry import Cause, Failure
from gateway.targets import NotTried, Targets, failure_of
from gateway.upstream_response import NothingReceived
from gateway.wait import Overdue, Waiting

GONE = Failure(Cause.NOT_CONNECTED)


def targets(*names: str, routed: bool = True) -> Targets:
    grants: Any = [
        SimpleNamespace(provider=SimpleNamespace(name=name, origin=name), model="m", account=name)
        for name in names
    ]
    return Targets(grants, routed=routed)


def pools(*open_ones: str) -> Pools:
    """Whose breakers at these origins let nothing through."""
    return cast(
        "Pools",
        SimpleNamespace(
            of=lambda origin: SimpleNamespace(
                breakers=SimpleNamespace(wait=lambda _: 3.0 if origin in open_ones else 0.0)
            )
        ),
    )


def test_one_after_the_other_and_open_breakers_are_passed_over() -> None:
    found = targets("a", "b", "c")
    assert found.advance(pools("b"), GONE)
    assert found.grant.provider.name == "c"
    assert not found.advance(pools(), GONE)
    assert found.told == ["a/m;not-connected"]


def test_the_client_of_a_route_is_told_and_no_other() -> None:
    found = targets("a", "b")
    found.advance(pools(), Failure(Cause.STATUS, 529))
    found.started = 2
    assert found.lines(answered=True) == ("x-karta-route: b/m;attempts=2", "x-karta-route-tried: a/m;529")
    refusal = found.final(Refusal(Kind.UPSTREAM_BROKEN, "no"), GONE)
    assert isinstance(refusal, Refusal)
    assert refusal.fields == ("x-karta-route-tried: a/m;529, b/m;not-connected",)
    error = UpstreamBroken("no")
    unrouted = targets("a", routed=False)
    assert unrouted.final(error, GONE) is error
    assert unrouted.lines(answered=True) == ()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NotTried(Cause.KEY, "no", 1), Cause.KEY),
        (Busy(Kind.UNAVAILABLE, "no"), Cause.BUSY),
        (Untrusted(Kind.UPSTREAM_UNREACHABLE, "no"), Cause.UNTRUSTED),
        (NotConnected(Kind.UPSTREAM_UNREACHABLE, "no"), Cause.NOT_CONNECTED),
        (NothingReceived(), Cause.NO_ANSWER),
        (UpstreamBroken("no"), Cause.BROKEN),
        (Overdue(Waiting.UPSTREAM), Cause.SILENT),
        (Refusal(Kind.MALFORMED, "no"), None),
        (trio.TooSlowError(), None),
    ],
)
def test_what_a_failed_try_means(error: Exception, cause: Cause | None) -> None:
    assert failure_of(error) == (None if cause is None else Failure(cause))
