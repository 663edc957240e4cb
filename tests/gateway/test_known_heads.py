"""A head is known or not: nothing that differs in a byte is taken for it, and no key is kept with it."""

from __future__ import annotations

import gc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway import known_heads, operations
from gateway.api_request import APIRequest, recognise, take_body
from gateway.known_heads import HEAD_BYTES_MAX, NEWS_MAX, KnownHead, KnownHeads
from gateway.limits import Limits
from gateway.provider import AuthStyle, make_provider
from gateway.refusal import Dialect
from gateway.request_reader import RequestReader
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway_process import gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, BODY, get, post
from tests.support.scripted_provider import answering, scripted_provider

TOKEN = "kt_live_of_a_customer"
MAC = b"mac of the token"
OPERATIONS = operations.load()
POST = post(TOKEN)
GET = get(TOKEN)


def read(data: bytes) -> APIRequest:
    """What the pipeline makes of a request that came in one read."""
    reader = RequestReader()
    reader.feed(data)
    (inbound,) = reader.ready
    request = recognise(inbound, OPERATIONS, Limits())
    if inbound.complete:
        take_body(request)
    return request


def knowing(*requests: bytes) -> KnownHeads:
    heads = KnownHeads()
    for data in requests:
        heads.remember(data, read(data), MAC)
    return heads


def find(heads: KnownHeads, data: bytes) -> tuple[KnownHead, bytes] | None:
    """What is found, whichever head came before it on the connection."""
    found = heads.find(data)
    for likely in heads._known.values():
        assert heads.find(data, likely) == found
    return found


def split(data: bytes) -> tuple[bytes, bytes]:
    head, end, body = data.partition(b"\r\n\r\n")
    return head + end, body


@given(st.binary(max_size=200), st.booleans())
@example(b"", True)
@example(b"\r\n\r\n", True)
def test_a_known_head_is_found_with_any_body_of_its_length(body: bytes, title_case: bool) -> None:
    name = b"Content-Length" if title_case else b"content-length"
    heads = knowing(POST.replace(b"content-length", name))
    head, _ = split(POST)
    data = head.replace(b"content-length: %d" % len(BODY), b"%s: %d" % (name, len(body))) + body
    found = find(heads, data)
    assert found is not None
    known, its_body = found
    assert its_body == body
    assert known.token_mac == MAC
    assert known.request.operation.path == "/v1/messages"


def test_a_request_without_a_body_is_found() -> None:
    found = find(knowing(GET), GET)
    assert found is not None
    assert found[1] == b""


@given(st.data())
@settings(max_examples=1000, deadline=None)
def test_no_other_head_is_found(data: st.DataObject) -> None:
    """Whatever is changed in it, anywhere but in the digits."""
    known = data.draw(st.sampled_from([POST, GET]))
    heads = knowing(known)
    head, body = split(known)
    changed = bytearray(head)
    at = data.draw(st.integers(0, len(head)))
    match data.draw(st.sampled_from(["replace", "insert", "delete", "double", "case"])):
        case "replace" if at < len(head):
            changed[at] = data.draw(st.integers(0, 255))
        case "insert":
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        case "delete":
            del changed[at : at + data.draw(st.integers(1, 20))]
        case "double":
            changed[at:at] = changed[max(0, at - data.draw(st.integers(1, 40))) : at]
        case "case":
            changed[at:] = changed[at:].swapcase()
    if changed == head:
        return
    assert find(heads, bytes(changed) + body) is None


@given(st.lists(st.sampled_from([*POST.split(b"\r\n"), b"content-length: 5", b"x: y"]), max_size=12))
def test_no_other_order_of_lines_is_found(lines: list[bytes]) -> None:
    data = b"\r\n".join(lines) + b"\r\n\r\n" + BODY
    assert find(knowing(POST), data) is None or data == POST


LENGTH = b"content-length: %d\r\n" % len(BODY)
LOOK_ALIKES = {
    "too short a body": POST[:-1],
    "too long a body": POST + b"x",
    "no body yet": split(POST)[0],
    "two requests": POST * 2,
    "a request and a half": POST + POST[:40],
    "an end before it": b"\r\n" + POST,
    "a zero before": POST.replace(LENGTH, b"content-length: 0%d\r\n" % len(BODY)),
    "a plus": POST.replace(LENGTH, b"content-length: +%d\r\n" % len(BODY)),
    "a space before": POST.replace(LENGTH, b"content-length:  %d\r\n" % len(BODY)),
    "a space after": POST.replace(LENGTH, b"content-length: %d \r\n" % len(BODY)),
    "no space": POST.replace(LENGTH, b"content-length:%d\r\n" % len(BODY)),
    "a tab": POST.replace(LENGTH, b"content-length:\t%d\r\n" % len(BODY)),
    "an underscore": POST.replace(LENGTH, b"content-length: 5_3\r\n"),
    "no digits": POST.replace(LENGTH, b"content-length: \r\n"),
    "many digits": POST.replace(LENGTH, b"content-length: " + b"9" * 5000 + b"\r\n"),
    "hexadecimal": POST.replace(LENGTH, b"content-length: 0x35\r\n"),
    "other digits": POST.replace(LENGTH, "content-length: ٥٣\r\n".encode()),
    "twice": POST.replace(LENGTH, LENGTH * 2),
    "twice in two cases": POST.replace(LENGTH, LENGTH + LENGTH.title()),
    "capitals": POST.replace(LENGTH, LENGTH.upper()),
    "another case": POST.replace(LENGTH, LENGTH.title()),
    "of something else": POST.replace(LENGTH, b"x-" + LENGTH),
    "of something else as well": POST.replace(LENGTH, b"x-content-length: 5\r\n" + LENGTH),
    "within a value": POST.replace(LENGTH, b"x: " + LENGTH),
    "folded": POST.replace(LENGTH, b"x: y\r\n " + LENGTH),
    "bare line feeds": POST.replace(b"\r\n", b"\n"),
    "in chunks": POST.replace(LENGTH, b"transfer-encoding: chunked\r\n")[: -len(BODY)]
    + b"35\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "in chunks and by length": POST.replace(LENGTH, LENGTH + b"transfer-encoding: chunked\r\n"),
    "another version": POST.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another method": POST.replace(b"POST", b"HEAD", 1),
    "to be closed": post(TOKEN, close=True),
    "with an expectation": post(TOKEN, headers="expect: 100-continue\r\n"),
    "the digits' mark": POST.replace(LENGTH, b"content-length: \0\r\n"),
    "nothing": b"",
    "an end": b"\r\n\r\n",
}


@pytest.mark.parametrize("what", LOOK_ALIKES)
def test_what_looks_alike_is_not_found(what: str) -> None:
    assert find(knowing(POST, GET), LOOK_ALIKES[what]) is None


NEVER_KEPT = {
    "HEAD": get(TOKEN, method="HEAD"),
    "HTTP/1.0": get(TOKEN, version="1.0"),
    "to be closed": post(TOKEN, close=True),
    "an expectation": post(TOKEN, headers="expect: 100-continue\r\n"),
    "in chunks": LOOK_ALIKES["in chunks"],
    "chunks of nothing": GET.replace(b"GET", b"POST")
    .replace(b"/v1/models", b"/v1/messages")
    .replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "not whole": POST[:-1],
    "an answer to rewrite": get(TOKEN, "/v1/messages/batches"),
    "an answer to rewrite of one": get(TOKEN, "/v1/messages/batches/b1"),
    "a long head": post(TOKEN, headers="x-long: " + "y" * HEAD_BYTES_MAX + "\r\n"),
}


@pytest.mark.parametrize("what", NEVER_KEPT)
def test_what_is_not_the_same_each_time_is_not_kept(what: str) -> None:
    heads = knowing(NEVER_KEPT[what])
    assert len(heads) == 0
    assert find(heads, NEVER_KEPT[what]) is None


def test_the_oldest_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_heads, "HEADS_MAX", 3)
    requests = [post(TOKEN, headers=f"x-number: {number}\r\n") for number in range(5)]
    heads = knowing(*requests)
    assert len(heads) == 3
    assert [find(heads, one) is not None for one in requests] == [False, False, True, True, True]


def test_the_same_head_is_kept_once() -> None:
    assert len(knowing(POST, POST, post(TOKEN, BODY + b" "))) == 1


def test_nobody_knows_what_another_process_calls_a_head() -> None:
    """The MAC's key is made anew: what two processes know cannot be told to be the same."""
    assert list(knowing(POST)._known) != list(knowing(POST)._known)


def test_the_head_that_goes_up_is_made_once_for_a_provider() -> None:
    known, _ = find(knowing(POST), POST) or pytest.fail("not found")

    one, other = (
        make_provider(
            "x", Dialect.ANTHROPIC, AuthStyle.CLIENT, url, api_key=None, ca_file=None, development=False
        )
        for url in ("https://provider.test/prefix", "https://provider.test")
    )
    first = known.prefix(one)
    assert first.startswith(b"POST /prefix/v1/messages HTTP/1.1\r\nhost: provider.test\r\n")
    assert known.prefix(one) is first
    assert known.prefix(other).startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert TOKEN.encode() not in first


def test_a_head_like_the_one_before_is_compared_but_for_its_key() -> None:
    heads = knowing(POST)
    (known,) = heads._known.values()
    heads._known.clear()
    assert heads.find(POST, known) == (known, BODY)
    other_key = POST.replace(TOKEN.encode(), TOKEN.swapcase().encode())
    assert heads.find(other_key, known) is None


@pytest.mark.parametrize(
    "headers",
    [
        "cookie: session=a-secret-of-somebody\r\n",
        "authorization: Bearer sk-of-the-provider\r\n",
        f"authorization: Bearer {TOKEN}\r\n",
        "proxy-authorization: Basic YTpi\r\n",
    ],
)
def test_a_head_with_other_secrets_is_known_by_its_mac_alone(headers: str) -> None:
    data = post(TOKEN, headers=headers)
    heads = knowing(data)
    (known,) = heads._known.values()
    assert find(heads, data) == (known, BODY)
    heads._known.clear()
    assert heads.find(data, known) is None
    kept = [one for one in reachable(known) if isinstance(one, bytes)]
    assert not [one for one in kept if b"a-secret" in one or b"sk-of" in one or b"YTpi" in one]


# Secrets.


@pytest.mark.parametrize("twice", [False, True])
def test_what_is_kept_holds_no_key(twice: bool) -> None:
    token = "kt_live_" + "that".join("nobody else has")
    again = f"authorization: Bearer {token}\r\n" if twice else ""
    data = post(token, headers=f"{again}x-custom: a\r\n")
    heads = knowing(data)
    known, _ = find(heads, data) or pytest.fail("not found")
    assert known.request.lines
    assert token.encode() not in b"".join(known.request.lines)
    assert known.request.token == b""
    assert (known.request.inbound.raw, known.request.inbound.lines, known.request.body) == (b"", [], b"")
    mine = id(data), id(token.encode())
    del known
    holders = [one for one in reachable(heads) if isinstance(one, bytes) and token.encode() in one]
    assert [one for one in holders if id(one) not in mine] == []


def reachable(start: object) -> list[object]:
    """Everything an object holds, but for classes, modules and functions."""
    seen: dict[int, object] = {}
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and type(one).__module__.partition(".")[0] in ("builtins", "gateway"):
            seen[id(one)] = one
            waiting += [
                other
                for other in gc.get_referents(one)
                if not isinstance(other, type) and not callable(other)
            ]
    return list(seen.values())


async def test_no_key_stays_in_the_memory_of_a_process(tenant: Tenant) -> None:
    """Once what came is no longer being read: not in what is remembered, and not in any buffer.

    What is kept is kept by every process. But Python leaves freed bytes as they are, and what is allocated
    over them later and lives on, as the frame of a task that waits, need not fill the whole of its block: in
    one of ten processes or so the end of such a block still shows them. So three of them are looked at.
    """
    for _ in range(3):
        if not await is_key_kept(tenant):
            return
    pytest.fail("the key stays")


async def is_key_kept(tenant: Tenant) -> bool:
    async with (
        scripted_provider(answering(ANSWER)) as upstream,
        gateway_process(tenant.database_url, tenant.spool_dir, provider_url=upstream.base_url) as gateway,
    ):
        async with await gateway.connect() as stream:
            client = RawClient(stream)
            for _ in range(5):
                await client.send(post(tenant.token))
                assert (await client.read_answer()).body == ANSWER
            assert upstream.received.count(b"POST") == 5
            secret = tenant.token.rpartition("_")[2].encode()
            # Longer requests that say nothing, over whatever bytes were left where the last ones were read.
            # What is freed is overwritten sooner or later, what is kept never.
            for _ in range(6):
                for size in (10, 100, 200, 300, 1000, 5000):
                    await client.send(post("kt_live_wrong", b" " * size))
                    assert (await client.read_answer()).status in (401, 429)
                if not gateway.count_in_memory(secret):
                    return False
        return True


# A connection whose heads never repeat.


async def test_heads_that_differ_each_time_are_soon_not_kept(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _), gateway.client() as client:
        heads = gateway.worker.lane._heads
        for number in range(NEWS_MAX + 5):
            await client.send(post(tenant.token, headers=f"traceparent: 00-{number:032x}-1-01\r\n"))
            assert (await client.read_answer()).body == ANSWER
        assert len(heads) == NEWS_MAX
        # Nor is anything sought for this connection any more, for others it is.
        for _ in range(3):
            await client.send(post(tenant.token))
            assert (await client.read_answer()).body == ANSWER
        assert gateway.worker.lane.requests == 0
        async with gateway.client() as another:
            for _ in range(2):
                await another.send(post(tenant.token))
                assert (await another.read_answer()).body == ANSWER
        assert gateway.worker.lane.requests == 1
        assert len(heads) == NEWS_MAX + 1


async def test_new_heads_among_known_ones_are_kept(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _), gateway.client() as client:
        for number in range(NEWS_MAX + 5):
            for _ in range(2):
                await client.send(post(tenant.token, headers=f"x-number: {number}\r\n"))
                assert (await client.read_answer()).body == ANSWER
        assert gateway.worker.lane.requests == NEWS_MAX + 5
