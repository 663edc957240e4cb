"""The wire: keep-alive, pipelining, 100-continue, chunked bodies, large bodies, what is not HTTP."""

import hashlib
import json
import re

import httpx
import trio

from tests.bench.sim.process import SimProcess, post, read_to_end, read_until

CHAT = {"model": "m", "messages": []}
CLOSE = "connection: close"


def replies(received: bytes) -> list[str]:
    """The status lines in what was received."""
    return re.findall(r"HTTP/1\.1 (\d+ [^\r]*)", received.decode("latin-1"))


async def test_pipelined_requests_are_answered_in_order(sim: SimProcess) -> None:
    slow = post("/v1/chat/completions", CHAT | {"model": "sim:ttft_ms=30,seed=1"})
    quick = post("/v1/chat/completions", CHAT | {"model": "quick"})
    last = post("/v1/embeddings", {"model": "e", "input": "x"}, CLOSE)
    received = await sim.talk(quick + slow + quick * 20 + last)
    assert replies(received) == ["200 OK"] * 23
    assert received.index(b"sim:ttft_ms") > received.index(b"quick")
    assert received.rindex(b"quick") < received.index(b'"embedding"')
    assert received.index(b"connection: close") > received.rindex(b"quick")


async def test_a_body_waits_for_its_100(sim: SimProcess) -> None:
    head, _, body = post("/v1/chat/completions", CHAT, "expect: 100-continue", CLOSE).partition(b"\r\n\r\n")
    async with await sim.dial() as raw:
        await raw.send_all(head + b"\r\n\r\n")
        assert await read_until(raw, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await raw.send_all(body)
        assert replies(await read_to_end(raw)) == ["200 OK"]


async def test_a_refused_key_gets_no_100(sim: SimProcess) -> None:
    head = post("/v1/chat/completions", CHAT, "expect: 100-continue").partition(b"\r\n\r\n")[0]
    received = await sim.talk(head.replace(b"sk-test", b"kt_live_x") + b"\r\n\r\n")
    assert replies(received) == ["401 Unauthorized"]
    assert b"connection: close" in received


async def test_a_chunked_request(sim: SimProcess) -> None:
    body = json.dumps(CHAT).encode()
    head = post("/v1/chat/completions", {}, CLOSE).partition(b"\r\n\r\n")[0]
    head = re.sub(rb"content-length: \d+", b"transfer-encoding: chunked", head)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert replies(await sim.talk(head + b"\r\n\r\n", chunks)) == ["200 OK"]
    entry = await sim.latest()
    assert entry["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert entry["body_bytes"] == len(body)


async def test_a_large_body_is_hashed_whole(http: httpx.AsyncClient, sim: SimProcess) -> None:
    content = bytes(range(256)) * 4_096 * 20
    reply = await http.post(
        "/v1/evals", content=content, headers={"content-type": "application/octet-stream"}
    )
    entry = await sim.entry(reply.headers["x-request-id"])
    assert reply.json()["body_bytes"] == entry["body_bytes"] == len(content)
    assert entry["body_sha256"] == hashlib.sha256(content).hexdigest()


async def test_http_1_0_closes_unless_asked(sim: SimProcess) -> None:
    old = post("/v1/chat/completions", CHAT).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert replies(await sim.talk(old)) == ["200 OK"]
    stream = post("/v1/chat/completions", CHAT | {"stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0")
    received = await sim.talk(stream)
    assert b"transfer-encoding" not in received
    assert received.endswith(b"data: [DONE]\n\n")


async def test_what_is_not_http(sim: SimProcess) -> None:
    for sent in (
        b"\x16\x03\x01 hello\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nbad header\r\n\r\n",
    ):
        received = await sim.talk(sent)
        assert replies(received) == ["400 Bad Request"]
    closed = (await sim.look("/_sim/connections"))["closed"]
    assert sum(one["malformed"] for one in closed) >= 2


async def test_both_lengths_are_refused(sim: SimProcess) -> None:
    head = post("/v1/chat/completions", CHAT, "transfer-encoding: chunked")
    assert replies(await sim.talk(head)) == ["400 Bad Request"]


async def test_a_head_without_end_is_refused(sim: SimProcess) -> None:
    sent = b"GET /v1/models HTTP/1.1\r\n" + b"x-filler: " + b"f" * 1_000_000
    async with await sim.dial() as raw:
        received = b""
        with trio.fail_after(10):
            try:
                for start in range(0, len(sent), 65_536):
                    await raw.send_all(sent[start : start + 65_536])
                received = await read_to_end(raw)
            except trio.BrokenResourceError:
                pass
    assert received == b"" or received.startswith(b"HTTP/1.1 431")


async def test_an_upgrade_is_answered_as_an_ordinary_request(sim: SimProcess) -> None:
    sent = (
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
        b"connection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05hello"
    )
    async with await sim.dial() as raw:
        await raw.send_all(sent)
        assert (await read_until(raw, b"omni-moderation")).startswith(b"HTTP/1.1 200 OK")


async def test_the_other_side_closing_is_noted(sim: SimProcess) -> None:
    async with await sim.dial() as raw:
        await raw.send_all(post("/v1/chat/completions", CHAT | {"model": "sim:hang=head,seed=1"}))
        entry = await sim.latest(lambda one: one["model"] == "sim:hang=head,seed=1")
        assert entry["client_closed_at"] is None
        assert entry["ended_at"] is None
    entry = await sim.entry(entry["request_id"], lambda one: one["client_closed_at"] is not None)
    assert entry["client_closed_at"] >= entry["started_at"]
    assert not entry["completed"]
    assert entry["bytes_sent"] == 0


async def test_a_reset_is_noted_too(sim: SimProcess) -> None:
    async with await sim.dial() as raw:
        await raw.send_all(
            post("/v1/chat/completions", CHAT | {"model": "sim:pace_ms=5,tokens=2000", "stream": True})
        )
        head = await read_until(raw, b"data: ")
        raw.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    found = re.search(rb"x-request-id: (\S+)", head)
    assert found is not None
    entry = await sim.entry(found[1].decode(), lambda one: one["client_closed_at"] is not None)
    assert 0 < entry["events_sent"] < 2_000
    assert not entry["completed"]


async def test_a_body_that_never_ends_is_counted(sim: SimProcess) -> None:
    head = post("/v1/embeddings", {"model": "unfinished", "input": "x" * 1_000})
    async with await sim.dial() as raw:
        await raw.send_all(head[:-500])
        entry = await sim.latest(lambda one: one["path"] == "/v1/embeddings")
        assert (entry["status"], entry["completed"], entry["ended_at"]) == (0, False, None)
    entry = await sim.entry(entry["request_id"], lambda one: one["client_closed_at"] is not None)
    assert 0 < entry["body_bytes"] < 1_000


async def test_keep_alive_is_kept(http: httpx.AsyncClient, sim: SimProcess) -> None:
    for _ in range(5):
        await http.post("/v1/chat/completions", json=CHAT)
    await http.post("/v1/chat/completions", json=CHAT | {"model": "sim:split=7"})
    entries = (await sim.look("/_sim/ledger"))["entries"][-6:]
    assert len({entry["connection_id"] for entry in entries}) == 1
