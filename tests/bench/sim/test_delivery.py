"""Answers that wait, break or flood."""

import gzip
import hashlib
import json
import re
import time
from typing import Any, get_args

import httpx
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bench.sim.behaviour import MALFORMED
from tests.bench.sim.process import RESET, SimProcess, post, read_to_end, read_until

CHAT: dict[str, Any] = {"messages": []}


def chat(behaviour: str, *headers: str, stream: bool = True) -> bytes:
    return post("/v1/chat/completions", CHAT | {"model": f"sim:{behaviour}", "stream": stream}, *headers)


def body_of(received: bytes) -> bytes:
    return received.partition(b"\r\n\r\n")[2]


async def entry_of(sim: SimProcess, received: bytes) -> dict[str, Any]:
    found = re.search(rb"x-request-id: (\S+)", received)
    assert found is not None
    return await sim.entry(found[1].decode(), lambda one: one["ended_at"] is not None)


@pytest.mark.parametrize(
    "pace", ["pace_ms=0.5", "flush", "split=7", "split=1,split_ms=0", "ttft_ms=1,headers_ms=1"]
)
async def test_however_it_is_paced_it_says_the_same(
    http: httpx.AsyncClient, sim: SimProcess, pace: str
) -> None:
    body = {"model": "m", "messages": [], "stream": True}
    plain = await http.post("/v1/chat/completions", json=body)
    slow = await http.post("/v1/chat/completions", json=body, headers={"x-sim-behaviour": pace})
    assert slow.content == plain.content
    entry = await sim.entry(slow.headers["x-request-id"], lambda one: one["completed"])
    assert entry["events_sent"] == 15
    assert entry["tokens_sent"] == 12
    assert entry["bytes_sent"] == len(slow.content)
    assert entry["response_sha256"] == hashlib.sha256(slow.content).hexdigest()


async def test_pace_takes_its_time(http: httpx.AsyncClient) -> None:
    started = time.monotonic()
    headers = {"x-sim-behaviour": "tokens=6,pace_ms=20,ttft_ms=50"}
    await http.post("/v1/chat/completions", json=CHAT | {"model": "m", "stream": True}, headers=headers)
    # A lower bound is not a matter of load: six tokens after 50 ms at five steps of 20 ms.
    assert time.monotonic() - started > 0.14


@pytest.mark.parametrize("stream", [True, False])
async def test_deaths(sim: SimProcess, stream: bool) -> None:
    reset = await sim.talk(chat("die_after=3", stream=stream))
    assert reset.endswith(RESET)
    ended = await sim.talk(chat("die_after=3,die=fin", stream=stream))
    assert not ended.endswith(RESET)
    assert not ended.endswith(b"0\r\n\r\n")
    if stream:
        assert body_of(ended).count(b"data: ") == 3
        clean = await sim.talk(chat("die_after=3,die=clean"))
        assert clean.endswith(b"0\r\n\r\n")
        assert b"[DONE]" not in clean
    else:
        assert len(body_of(ended)) == 3
    entry = await entry_of(sim, ended)
    assert not entry["completed"]
    assert entry["client_closed_at"] is None
    assert entry["events_sent"] == (3 if stream else 0)


async def test_deaths_before_the_answer(sim: SimProcess) -> None:
    assert await sim.talk(chat("die_at=request")) == RESET
    assert await sim.talk(chat("die_at=request,die=fin")) == b""
    half = await sim.talk(chat("die_at=head,die=fin"))
    assert half.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in half
    head = chat("tokens=1", "x-sim-behaviour: die_at=headers,die=fin").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert await sim.talk(head) == b""


async def test_silence_in_the_middle(sim: SimProcess) -> None:
    async with await sim.dial() as raw:
        await raw.send_all(chat("hang_after=2"))
        received = await read_until(raw, b'content":"')
        with trio.move_on_after(0.1) as waited:
            await read_to_end(raw)
        assert waited.cancelled_caught
    found = re.search(rb"x-request-id: (\S+)", received)
    assert found is not None
    entry = await sim.entry(found[1].decode(), lambda one: one["client_closed_at"] is not None)
    assert (entry["events_sent"], entry["completed"]) == (2, False)


async def test_silence_that_ends(http: httpx.AsyncClient) -> None:
    for behaviour in ("hang=head,hang_ms=5", "hang_after=2,hang_ms=5"):
        for stream in (False, True):
            body = CHAT | {"model": f"sim:{behaviour}", "stream": stream}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200


@pytest.mark.parametrize("kind", ["head", "status", "header", "nul", "length", "lengths"])
async def test_malformed_heads_are_refused_by_a_client(http: httpx.AsyncClient, kind: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post("/v1/chat/completions", json=CHAT | {"model": f"sim:malformed={kind}"})


async def test_malformed_heads_only_strict_clients_refuse(sim: SimProcess) -> None:
    version = await sim.talk(chat("malformed=version,close", stream=False))
    assert version.startswith(b"HTTP/9.9 200 OK\r\n")
    both = await sim.talk(chat("malformed=both,close", stream=False))
    assert b"content-length: 5\r\ntransfer-encoding: chunked\r\n" in both
    assert both.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("kind", ["chunk", "chunk_size"])
@pytest.mark.parametrize("stream", [True, False])
async def test_malformed_chunks_are_refused_by_a_client(
    http: httpx.AsyncClient, kind: str, stream: bool
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post(
            "/v1/chat/completions", json=CHAT | {"model": f"sim:malformed={kind}", "stream": stream}
        )


async def test_framings(http: httpx.AsyncClient, sim: SimProcess) -> None:
    texts = set()
    for framing in ("auto", "chunked", "length", "close"):
        body = CHAT | {"model": "m", "stream": True}
        reply = await http.post(
            "/v1/chat/completions", json=body, headers={"x-sim-behaviour": f"framing={framing}"}
        )
        texts.add(reply.text)
        assert ("content-length" in reply.headers) == (framing == "length")
        assert ("transfer-encoding" in reply.headers) == (framing in ("auto", "chunked"))
        assert (reply.headers.get("connection") == "close") == (framing == "close")
    assert len(texts) == 1
    whole = await http.post("/v1/chat/completions", json=CHAT | {"model": "sim:framing=chunked"})
    assert whole.headers["transfer-encoding"] == "chunked"
    assert (await sim.entry(whole.headers["x-request-id"]))["completed"]


async def test_closing_extra_and_short(sim: SimProcess) -> None:
    said = await sim.talk(chat("close", stream=False))
    assert b"connection: close" in said
    silent = await sim.talk(chat("close_silently", stream=False))
    assert b"connection" not in silent
    extra = await sim.talk(chat("extra_bytes=5", stream=False))
    assert extra.endswith(b"XXXXX")
    short = await sim.talk(chat("short_bytes=5", stream=False))
    length = int(re.search(rb"content-length: (\d+)", short)[1])  # type: ignore[index]
    assert len(body_of(short)) == length - 5


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_interim_responses(http: httpx.AsyncClient, sim: SimProcess, status: int) -> None:
    received = await sim.talk(chat(f"interim={status},close", stream=False))
    assert received.startswith(b"HTTP/1.1 %d Interim\r\n" % status)
    reply = await http.post("/v1/chat/completions", json=CHAT | {"model": f"sim:interim={status}"})
    assert reply.status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("framing", ["auto", "length"])
async def test_encodings(http: httpx.AsyncClient, encoding: str, stream: bool, framing: str) -> None:
    body = CHAT | {"model": "m", "stream": stream}
    plain = await http.post("/v1/chat/completions", json=body)
    headers = {"x-sim-behaviour": f"encoding={encoding},framing={framing}"}
    packed = await http.post("/v1/chat/completions", json=body, headers=headers)
    assert packed.headers["content-encoding"] == encoding
    assert packed.content == plain.content
    refused = await http.post("/v1/chat/completions", json=body, headers={**headers, "accept-encoding": "br"})
    assert "content-encoding" not in refused.headers


async def test_gzip_is_really_on_the_wire(sim: SimProcess) -> None:
    received = await sim.talk(
        chat("encoding=gzip,framing=length,close", "accept-encoding: gzip", stream=False)
    )
    assert json.loads(gzip.decompress(body_of(received)))["object"] == "chat.completion"


async def test_a_flood_waits_for_its_reader(sim: SimProcess) -> None:
    """A reader who does not read stops the provider; the ledger tells how far it came."""
    async with await sim.dial() as raw:
        raw.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65_536)
        await raw.send_all(chat("bytes=1000000000"))
        received = await read_until(raw, b"data: ")
        found = re.search(rb"x-request-id: (\S+)", received)
        assert found is not None
        sent = -1
        with trio.fail_after(10):
            while (now := (await sim.entry(found[1].decode()))["bytes_sent"]) != sent:
                sent = now
                await trio.sleep(0.05)
        assert 0 < sent < 100_000_000
        assert len(await raw.receive_some()) > 0
    entry = await sim.entry(found[1].decode(), lambda one: one["client_closed_at"] is not None)
    assert not entry["completed"]


async def test_sixty_four_megabytes_in_one_event(sim: SimProcess) -> None:
    received = await sim.talk(chat("event_bytes=67108864,close"))
    assert len(received) > 67_108_864
    assert received.count(b"data: ") == 4
    assert (await entry_of(sim, received))["completed"]


async def test_answering_early_and_never_reading(sim: SimProcess) -> None:
    head = post("/v1/evals", {}, "x-sim-behaviour: early,error=413").partition(b"\r\n\r\n")[0]
    head = re.sub(rb"content-length: \d+", b"content-length: 1000000", head) + b"\r\n\r\n"
    early = await sim.talk(head)
    assert early.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in early
    async with await sim.dial() as raw:
        await raw.send_all(head.replace(b"early,error=413", b"read=stop"))
        with trio.move_on_after(0.5) as waited:
            while True:
                await raw.send_all(b"x" * 65_536)
        assert waited.cancelled_caught
    assert (await sim.latest())["status"] == 0


async def test_header_floods(http: httpx.AsyncClient) -> None:
    headers = {"x-sim-behaviour": "header_count=50,header_bytes=10000,cloudflare"}
    reply = await http.get("/v1/models", headers=headers)
    assert len(reply.headers["x-sim-filler"]) == 10_000
    assert reply.headers["server"] == "cloudflare"
    assert reply.headers["x-sim-49"] == "v"


async def test_sound_is_paced_too(http: httpx.AsyncClient) -> None:
    started = time.monotonic()
    body = {"model": "sim:tokens=4,pace_ms=20", "voice": "v", "input": "x"}
    assert len((await http.post("/v1/audio/speech", json=body)).content) == 4 * 1_028
    assert time.monotonic() - started > 0.05


FAULTS = st.fixed_dictionaries(
    {},
    optional={
        "die": st.sampled_from(["rst", "fin", "clean"]),
        "die_at": st.sampled_from(["headers", "request", "head"]),
        "die_after": st.integers(0, 20),
        "hang_after": st.integers(0, 20),
        "hang": st.just("head"),
        "malformed": st.sampled_from(get_args(MALFORMED)),
        "malformed_after": st.integers(0, 3),
        "error": st.sampled_from([400, 529]),
        "error_after": st.integers(0, 5),
        "framing": st.sampled_from(["auto", "chunked", "length", "close"]),
        "encoding": st.sampled_from(["gzip", "deflate"]),
        "split": st.integers(1, 200),
        "interim": st.sampled_from([100, 103]),
        "newline": st.sampled_from(["crlf", "cr"]),
        "close_silently": st.just(1),
        "extra_bytes": st.integers(1, 9),
        "short_bytes": st.integers(1, 9),
        "bytes": st.integers(1, 200_000),
        "usage": st.sampled_from(["none", "twice"]),
        "status": st.sampled_from([201, 204, 304]),
        "early": st.just(1),
        "flush": st.just(1),
        "redirect": st.just(302),
    },
)
PATHS = [
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/responses",
    "/v1/audio/speech",
    "/v1/completions",
    "/v1/evals",
]


@pytest.mark.parametrize("stream", [True, False])
async def test_faults_in_any_mixture_end(sim: SimProcess, stream: bool) -> None:
    """Whatever is asked for together, the connection ends and the next one works; the fixture counts
    defects."""
    mixtures: list[tuple[str, dict[str, Any]]] = []

    @settings(max_examples=150, database=None, derandomize=True, phases=[Phase.generate])
    @given(st.sampled_from(PATHS), FAULTS)
    def collect(path: str, faults: dict[str, Any]) -> None:
        mixtures.append((path, faults))

    collect()
    body = {"model": "m", "messages": [], "max_tokens": 9, "input": "x", "stream": stream}
    for path, faults in mixtures:
        behaviour = ",".join(f"{key}={value}" for key, value in (faults | {"hang_ms": 1}).items())
        sent = post(path, body, "connection: close", "accept-encoding: gzip", f"x-sim-behaviour: {behaviour}")
        await sim.talk(sent)
    assert await sim.look("/_sim/health") == {"ok": True, "failures": 0}
