"""A worker alone has nobody to ask."""

from __future__ import annotations

from gateway.peers import Alone, Peers, Verdict


async def test_alone_it_verifies_everything_itself() -> None:
    peers: Peers = Alone()
    assert await peers.claim(b"mac", b"mark") is Verdict.GO
    peers.verified(b"mac", b"mark", "abcdefghijkl")
    peers.failed(b"mac", b"mark", wrong=True)
    peers.forget(["abcdefghijkl"])
    assert await peers.claim(b"mac", b"mark") is Verdict.GO


def test_each_has_a_secret_of_its_own() -> None:
    assert len(Alone().secret) == 32
    assert Alone().secret != Alone().secret
