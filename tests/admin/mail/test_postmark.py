"""The client against the simulated Postmark: every way in which a call can end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from admin.mail import postmark as client
from admin.mail.postmark import (
    INACTIVE_CODE,
    INVALID_CODE,
    NotTaken,
    Outgoing,
    Postmark,
    Refused,
    Rejected,
    Taken,
    Unknown,
    open_postmark,
)
from admin.mail.rendering import Mail
from tests.support.postmark import TOKEN, PostmarkServer, running_postmark

SENDER = "Karta <karta@example.com>"


@pytest.fixture(scope="module")
def server() -> Iterator[PostmarkServer]:
    with running_postmark() as server:
        yield server


@pytest.fixture
async def postmark(server: PostmarkServer) -> AsyncIterator[Postmark]:
    async with open_postmark(server.url, SecretStr(TOKEN), SENDER) as postmark:
        yield postmark


def letter(recipient: str = "ada@example.com", stream: str = "outbound") -> Outgoing:
    mail = Mail(recipient=recipient, subject="Hello", text="text", html="<p>html</p>")
    return Outgoing(uuid4(), stream, "reset_password", mail)


async def test_what_is_sent_is_found(postmark: Postmark, server: PostmarkServer) -> None:
    one, two = letter(), letter(stream="broadcast")
    assert await postmark.find(one.message_id, "outbound") is None
    (taken,) = await postmark.send([one])
    await postmark.send([two])
    assert await postmark.find(one.message_id, "outbound") == taken
    assert await postmark.find(one.message_id, "broadcast") is None
    assert await postmark.find(two.message_id, "broadcast") is not None
    (message,) = server.of(one.message_id)
    assert isinstance(taken, Taken)
    assert taken.postmark_id == UUID(message["MessageID"])
    assert (message["From"], message["To"], message["Tag"]) == (SENDER, "ada@example.com", "reset_password")
    assert (message["TrackOpens"], message["TrackLinks"]) == (False, "None")


async def test_each_of_many_has_its_own_end(postmark: Postmark, server: PostmarkServer) -> None:
    server.inactive = {"gone@example.com"}
    results = await postmark.send([letter(), letter("gone@example.com"), letter("x@nowhere")])
    assert [type(result) for result in results] == [Taken, Refused, Refused]
    assert [result.code for result in results if isinstance(result, Refused)] == [INACTIVE_CODE, INVALID_CODE]
    assert server.calls[-1] == "POST /email/batch"
    (alone,) = await postmark.send([letter("gone@example.com")])
    assert isinstance(alone, Refused)
    assert (alone.code, alone.lasts) == (INACTIVE_CODE, True)
    (elsewhere, _) = await postmark.send([letter(stream="nowhere"), letter()])
    assert isinstance(elsewhere, Refused)
    assert not elsewhere.lasts, "that is the settings' fault, not the letter's"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("lost", Unknown),
        ("taken and lost", Unknown),
        ("taken and cut", Unknown),
        ("nonsense", Unknown),
        ("unavailable", NotTaken),
        ("no credits", NotTaken),
        ("elsewhere", NotTaken),
        ("throttled", NotTaken),
    ],
)
async def test_what_is_of_the_whole_call(
    postmark: Postmark, server: PostmarkServer, end: str, expected: type[Exception]
) -> None:
    for number in (1, 2):
        server.script.append(end)
        with pytest.raises(expected) as told:
            await postmark.send([letter() for _ in range(number)])
        if end == "throttled":
            assert isinstance(told.value, NotTaken)
            assert told.value.retry_after_seconds == 20
        assert TOKEN not in str(told.value)


async def test_an_answer_that_does_not_come(
    postmark: Postmark, server: PostmarkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SEND_SECONDS_MAX", 0.2)
    server.script.append("taken and hung")
    one = letter()
    with pytest.raises(Unknown):
        await postmark.send([one])
    assert await postmark.find(one.message_id, "outbound") is not None


async def test_a_search_that_does_not_say(postmark: Postmark, server: PostmarkServer) -> None:
    for end, expected in (("unavailable", NotTaken), ("nonsense", Unknown)):
        server.script.append(end)
        with pytest.raises(expected):
            await postmark.find(uuid4(), "outbound")


async def test_a_call_that_is_too_much_is_refused_as_a_whole(
    postmark: Postmark, server: PostmarkServer
) -> None:
    with pytest.raises(Rejected):
        await postmark.send([letter() for _ in range(501)])


async def test_a_wrong_token_and_nobody_there(server: PostmarkServer) -> None:
    async with open_postmark(server.url, SecretStr("wrong"), SENDER) as postmark:
        with pytest.raises(NotTaken, match="401"):
            await postmark.send([letter()])
    async with open_postmark("http://127.0.0.1:1", SecretStr(TOKEN), SENDER) as postmark:
        with pytest.raises(NotTaken, match="reached"):
            await postmark.send([letter()])


async def test_no_proxy_of_the_environment_sees_a_letter(
    server: PostmarkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with open_postmark(server.url, SecretStr(TOKEN), SENDER) as postmark:
        assert isinstance((await postmark.send([letter()]))[0], Taken)
