"""A head is known, or not; and no key is kept with it. Heads of a known shape are `test_request_layout`'s.

What is found is what the whole way would make of the request: the two are compared, whatever is changed in
a head.
"""

from __future__ import annotations

import gc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import known_heads, operations
from gateway.api_request import APIRequest, read_fields, recognise, take_body
from gateway.known_heads import HEAD_BYTES_MAX, NEWS_KEPT, NEWS_MAX, Found, KnownHeads
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
OTHER = b"kt_live_of_another_one"
VERIFIED = {TOKEN.encode(), OTHER}
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
    """Those heads; a key is recalled by itself."""
    heads = KnownHeads(bytes)
    for data in requests:
        heads.remember(data, read(data))
    return heads


def find(heads: KnownHeads, data: bytes) -> Found | None:
    """What is found of a verified key, whichever head came before it on the connection; never anything but
    what the whole way makes of it.
    """
    found = verified(heads.find(data))
    for likely in heads._known.values():
        same = verified(heads.find(data, likely))
        assert (same is None) == (found is None)
        if same is not None and found is not None:
            assert told(same) == told(found)
    if found is None:
        return None
    request = read(data)
    assert told(found) == meaning(request)
    assert request.inbound.keep_alive
    assert request.inbound.version == "1.1"
    assert request.inbound.complete
    return found


def verified(found: Found | None) -> Found | None:
    return None if found is None or found.token_mac not in VERIFIED else found


def told(found: Found) -> tuple[object, ...]:
    request = found.known.request.again(found.body, read_fields(found.known.request, found.body))
    request.token = found.token_mac
    return meaning(request)


def meaning(request: APIRequest) -> tuple[object, ...]:
    """All that stages ask of a request after its head was read."""
    return (
        request.operation,
        request.target,
        request.inbound.method,
        request.lines,
        request.host,
        request.token,
        request.bearer,
        request.content_length >= 0,
        request.json,
        request.expects_continue,
        request.body,
        request.model,
        request.streaming,
    )


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
    found = heads.find(data)
    assert found is not None
    assert found.repeated
    assert found.body == body
    assert found.token_mac == TOKEN.encode()
    assert found.known.request.operation.path == "/v1/messages"


def test_a_request_without_a_body_is_found() -> None:
    found = find(knowing(GET), GET)
    assert found is not None
    assert found.body == b""


def test_whose_a_head_is_its_key_alone_tells() -> None:
    heads = knowing(POST)
    for key in (OTHER, OTHER + b"longer", b"kt_"):
        found = heads.find(POST.replace(TOKEN.encode(), key))
        assert found is not None
        assert found.repeated
        assert found.token_mac == key
    assert heads.find(POST.replace(TOKEN.encode(), b"sk-of-a-provider")) is None


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
    found = [find(heads, one) or pytest.fail("has no known shape") for one in requests]
    assert [one.repeated for one in found] == [False, False, True, True, True]


def test_the_same_head_is_kept_once() -> None:
    assert len(knowing(POST, POST, post(TOKEN, BODY + b" "))) == 1


def test_nobody_knows_what_another_process_calls_a_head() -> None:
    """The MAC's key is made anew: what two processes know cannot be told to be the same."""
    assert list(knowing(POST)._known) != list(knowing(POST)._known)


def test_the_head_that_goes_up_is_made_once_for_a_provider() -> None:
    known = (find(knowing(POST), POST) or pytest.fail("not found")).known
    one, other = (
        make_provider(
            "x", Dialect.ANTHROPIC, AuthStyle.CLIENT, url, api_key=None, ca_file=None, development=False
        )
        for url in ("https://provider.test/prefix", "https://provider.test")
    )
    first = known.prefix(one, hide_account=False)
    assert first.startswith(b"POST /prefix/v1/messages HTTP/1.1\r\nhost: provider.test\r\n")
    assert known.prefix(one, hide_account=False) is first
    assert known.prefix(other, hide_account=False).startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert TOKEN.encode() not in first


def test_a_head_like_the_one_before_is_compared_but_for_its_key() -> None:
    heads = knowing(POST)
    (known,) = heads._known.values()
    heads._known.clear()
    for key in (TOKEN.encode(), TOKEN[::-1].encode()):
        found = heads.find(POST.replace(TOKEN.encode(), key), known) or pytest.fail("not found")
        assert found.known is known
        assert (found.body, found.token_mac) == (BODY, key)


@pytest.mark.parametrize(
    "headers",
    [
        "cookie: session=a-secret-of-somebody\r\n",
        "authorization: Bearer sk-of-the-provider\r\n",
        "proxy-authorization: Basic YTpi\r\n",
    ],
)
def test_a_head_with_other_secrets_is_known_by_its_mac_alone(headers: str) -> None:
    data = post(TOKEN, headers=headers)
    heads = knowing(data)
    (known,) = heads._known.values()
    assert (find(heads, data) or pytest.fail("not found")).known is known
    heads._known.clear()
    found = heads.find(data, known) or pytest.fail("not found")
    assert not found.repeated
    kept = [one for one in reachable(known) if isinstance(one, bytes)]
    assert not [one for one in kept if b"a-secret" in one or b"sk-of" in one or b"YTpi" in one]


# Secrets.


def test_two_keys_are_judged_each_time() -> None:
    """The same one twice is served, of two different ones none: which it is must be looked at."""
    twice = post(TOKEN, headers=f"authorization: Bearer {TOKEN}\r\n")
    heads = knowing(twice)
    assert (len(heads), len(heads.shapes)) == (0, 0)


def test_what_is_kept_holds_no_key() -> None:
    token = "kt_live_" + "that".join("nobody else has")
    data = post(token, headers="x-custom: a\r\n")
    heads = knowing(data)
    known = (heads.find(data) or pytest.fail("not found")).known
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


async def test_heads_that_differ_each_time_are_known_by_their_shape_and_soon_not_kept(
    stage: Stage, tenant: Tenant
) -> None:
    async with stage(answering(ANSWER)) as (gateway, upstream), gateway.client() as client:
        heads = gateway.worker.lane._heads
        for number in range(NEWS_KEPT + 1):
            await client.send(post(tenant.token, headers=f"x-id: {number:032x}\r\n"))
            assert (await client.read_answer()).body == ANSWER
            assert len(heads) == min(number + 1, NEWS_MAX) + (number + 1 >= NEWS_KEPT)
        assert upstream.received.count(b"x-id: ") == NEWS_KEPT + 1
        assert b"x-id: %032x\r\n" % NEWS_KEPT in upstream.received
        assert gateway.worker.lane.requests == NEWS_KEPT
        assert len(heads.shapes) == 1


async def test_new_heads_among_known_ones_are_kept(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _), gateway.client() as client:
        for number in range(NEWS_MAX + 5):
            for _ in range(2):
                await client.send(post(tenant.token, headers=f"x-number: {number}\r\n"))
                assert (await client.read_answer()).body == ANSWER
        assert gateway.worker.lane.requests == 2 * (NEWS_MAX + 5) - 1
