"""Messages over real TLS: what is sent and to whom, and that nothing hostile reaches a private listener."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence

import pytest
import trio

from admin.webhooks import dialing
from admin.webhooks.dialing import Dialer, Undelivered
from admin.webhooks.safe_address import Rules, UnsafeURL
from tests.admin.webhooks.hostile_urls import ANSWERS, URLS
from tests.admin.webhooks.receiver import HOST, Received, Receiver, answer, running_receiver

LOOPBACK = Rules(allowed_networks=(ipaddress.ip_network("127.0.0.0/8"),))
ANY_PORT = Rules(allowed_networks=(ipaddress.ip_network("203.0.113.77/32"),))
"""Frees the port and private names, and opens nothing that is here."""


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


class Scripted:
    """A resolver that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def to_loopback(receiver: Receiver, **settings: object) -> Dialer:
    return Dialer(LOOPBACK, receiver.trusting(), Scripted(["127.0.0.1"]), **settings)  # type: ignore[arg-type]


async def refusal(dialer: Dialer, url: str) -> str:
    with pytest.raises(Undelivered) as caught:
        await dialer.post(url, {}, b"{}")
    return caught.value.reason


async def test_a_message_arrives_under_its_receivers_name(receiver: Receiver) -> None:
    got = await to_loopback(receiver).post(receiver.url("/a?b=c"), {"Webhook-Id": "msg_1"}, b'{"x":1}')
    assert (got.status, got.excerpt) == (200, b"thank you")
    [one] = receiver.received
    assert (one.method, one.target, one.body) == ("POST", "/a?b=c", b'{"x":1}')
    assert one.headers == {
        "host": f"{HOST}:{receiver.port}",
        "content-length": "7",
        "webhook-id": "msg_1",
        "connection": "close",
    }


async def test_nothing_hostile_reaches_a_private_listener(receiver: Receiver) -> None:
    for rules in (Rules(), ANY_PORT):
        dialer = Dialer(rules, receiver.trusting())
        for url in URLS:
            if rules is ANY_PORT and "localhost" in url.lower():
                dialer.resolve = Scripted(
                    ["127.0.0.1"]
                )  # such names are taken then; what they stand for is not
            assert await refusal(dialer, url.replace("{port}", str(receiver.port))) in (
                *("unsafe_url", "unsafe_address", "no_name"),
            )
            dialer.resolve = None
    for name, answers in ANSWERS.items():
        dialer = Dialer(ANY_PORT, receiver.trusting(), Scripted(answers))
        assert await refusal(dialer, receiver.url(host=name)) == "unsafe_address"
    assert (receiver.connections, receiver.received) == (0, [])
    # The listener would have heard: the same, where it is allowed.
    await to_loopback(receiver).post(receiver.url(), {}, b"{}")
    assert receiver.connections == 1


async def test_a_name_that_changes_its_mind_gains_nothing(receiver: Receiver) -> None:
    rebinding = Scripted(["8.8.8.8"], ["127.0.0.1"])
    dialer = Dialer(ANY_PORT, receiver.trusting(), rebinding)
    await dialer.check(receiver.url())
    assert await refusal(dialer, receiver.url()) == "unsafe_address"
    # What was checked is what is connected to: there is no second question.
    pinned = Scripted(["127.0.0.1"], ["127.0.0.2"])
    await Dialer(LOOPBACK, receiver.trusting(), pinned).post(receiver.url(), {}, b"{}")
    assert pinned.asked == [HOST]
    assert receiver.connections == 1


async def test_another_address_is_tried_when_one_does_not_answer(receiver: Receiver) -> None:
    dialer = Dialer(LOOPBACK, receiver.trusting(), Scripted(["127.0.0.9", "127.0.0.1"]))
    assert (await dialer.post(receiver.url(), {}, b"{}")).status == 200
    dialer = Dialer(LOOPBACK, receiver.trusting(), Scripted(["127.0.0.9"]))
    assert await refusal(dialer, receiver.url()) == "no_connection"


async def test_the_certificate_must_be_of_the_urls_name(receiver: Receiver) -> None:
    assert await refusal(to_loopback(receiver), receiver.url(host="other.example.com")) == "tls"
    stranger = Dialer(LOOPBACK, ssl.create_default_context(), Scripted(["127.0.0.1"]))
    assert await refusal(stranger, receiver.url()) == "tls"
    assert receiver.received == []


async def test_redirects_are_answers_and_no_proxy_is_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with running_receiver() as inside:
        receiver.respond = lambda _: answer(307, location=inside.url())
        got = await to_loopback(receiver).post(receiver.url(), {}, b"{}")
        assert got.status == 307
        assert inside.connections == 0


async def test_patience_is_read_in_seconds_only(receiver: Receiver) -> None:
    for given, read in (
        ("120", 120),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-5", None),
        ("9" * 30, None),
    ):
        receiver.respond = lambda _, given=given: answer(429, retry_after=given)  # type: ignore[misc]
        assert (await to_loopback(receiver).post(receiver.url(), {}, b"{}")).retry_after_seconds == read


async def test_of_a_long_answer_the_beginning_is_read(receiver: Receiver) -> None:
    receiver.respond = lambda _: answer(200, b"x" * 5_000_000)
    got = await to_loopback(receiver).post(receiver.url(), {}, b"{}")
    assert got.excerpt == b"x" * 1024
    receiver.respond = lambda _: answer(200, b"\x1f\x8b", content_encoding="gzip")
    assert (await to_loopback(receiver).post(receiver.url(), {}, b"{}")).excerpt == b"\x1f\x8b"


async def test_a_receiver_that_dawdles_is_left(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    never = trio.Event()

    async def silent(_: Received) -> bytes:
        await never.wait()
        return b""

    receiver.respond = silent
    assert await refusal(to_loopback(receiver, seconds_max=0.3), receiver.url()) == "timeout"
    # A body that never ends takes nothing from the status before it.
    monkeypatch.setattr(dialing, "BODY_SECONDS_MAX", 0.2)
    receiver.respond = lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"
    got = await to_loopback(receiver).post(receiver.url(), {}, b"{}")
    assert (got.status, got.excerpt) == (200, b"abc")


async def test_a_head_a_byte_at_a_time_ends_with_the_deadline() -> None:
    """Of a server that always sends something, so that no deadline for a single read would end it."""
    stopped = trio.Event()

    async def drip(stream: trio.SocketStream) -> None:
        try:
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.01)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            stopped.set()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, drip, [listener])
        port = listener.socket.getsockname()[1]
        dialer = Dialer(LOOPBACK, ssl.create_default_context(), Scripted(["127.0.0.1"]), seconds_max=0.5)
        assert await refusal(dialer, f"https://{HOST}:{port}/") in ("tls", "timeout")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "response",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, b"HTTP/1.1 099 OK\r\n\r\n"],
)
async def test_what_is_no_answer_is_told_as_such(receiver: Receiver, response: bytes) -> None:
    receiver.respond = lambda _: response
    assert await refusal(to_loopback(receiver), receiver.url()) == "bad_answer"


async def test_who_registers_a_url_is_told_what_is_wrong(receiver: Receiver) -> None:
    with pytest.raises(UnsafeURL, match="https://hooks"):
        await Dialer(Rules()).check("http://hooks.example.com/")
    with pytest.raises(Undelivered, match="unsafe_address"):
        await Dialer(Rules(), resolve=Scripted(["10.0.0.1"])).check("https://hooks.example.com/")

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError(host)

    with pytest.raises(Undelivered, match="no_name"):
        await Dialer(Rules(), resolve=unknown).check("https://hooks.example.com/")


async def test_the_systems_resolver_is_asked_for_all_addresses(receiver: Receiver) -> None:
    dialer = Dialer(LOOPBACK, receiver.trusting())
    assert "127.0.0.1" in await dialer._ask_system("localhost", 443)
    rules = Rules(allowed_networks=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")))
    dialer = Dialer(rules, receiver.trusting())
    assert (await dialer.post(receiver.url(host="localhost"), {}, b"{}")).status == 200
