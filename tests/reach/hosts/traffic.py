"""Clients of both gateways, and what they saw.

Each request asks for a model of its own, so that it is found again in the provider's ledger and in the usage
rows.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.faults.history import Attempt
from tests.reach.hosts.network import NETS
from tests.reach.hosts.site import GATEWAY_PORT, PROVIDER_PORT, Site
from tests.support.raw_client import RawClient
from tests.support.requests import post

CONNECT_SECONDS_MAX = 2.0
PATIENCE_SECONDS = 30.0
"""Above all that a gateway may take to say no."""
OUTPUT_TOKENS_MAX = 40
STREAM_PACE_MS = 50
_SAID = [{"role": "user", "content": "hello"}]


class Asked(Attempt):
    """One request to one host. `trouble` is why there is no answer: "refused" and "unreachable" before a
    connection was made, else "cut" or "silent"."""

    host: str = ""
    key: str = ""
    began: float = 0.0
    ended: float = 0.0
    trouble: str = ""
    answer: dict[str, Any] | None = None
    """What Karta said instead."""

    @property
    def accepted(self) -> bool:
        return self.status == 200


class Traffic:
    """`tokens` are the keys by the names they go by here."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._numbers = itertools.count()
        self.tokens: dict[str, str] = {}
        self.history: list[Asked] = []

    def _request(self, host: str, key: str, behaviour: str, stream: bool, close: bool) -> tuple[Asked, bytes]:
        asked = Asked(f"sim:seed={next(self._numbers)},{behaviour}", host=host, key=key, began=time.time())
        self.history.append(asked)
        body: dict[str, Any] = {"model": asked.model, "max_tokens": OUTPUT_TOKENS_MAX, "messages": _SAID}
        if stream:
            # What is paced is as long as somebody wants to watch it.
            body |= {"stream": True, "max_tokens": 100_000 if "pace" in behaviour else OUTPUT_TOKENS_MAX}
        return asked, post(self.tokens[key], json.dumps(body).encode(), close=close)

    async def connect(self, host: str, asked: Asked) -> RawClient | None:
        address = self._site.url(host).removeprefix("http://").partition(":")[0]
        try:
            with trio.fail_after(CONNECT_SECONDS_MAX):
                stream = await trio.open_tcp_stream(address, GATEWAY_PORT)
        except (OSError, trio.TooSlowError) as error:
            asked.trouble = "unreachable" if isinstance(error, trio.TooSlowError) else "refused"
            asked.ended = time.time()
            return None
        return RawClient(stream, patience_seconds=PATIENCE_SECONDS)

    async def ask(self, host: str, key: str, behaviour: str = "tokens=5", *, stream: bool = False) -> Asked:
        """One request, on a connection of its own."""
        asked, request = self._request(host, key, behaviour, stream, close=True)
        client = await self.connect(host, asked)
        if client is not None:
            async with client.stream:
                await _exchange(client, asked, request)
        return asked

    async def warm(self, key: str, *hosts: str, seconds_max: float = 0) -> None:
        """Every worker there knows the key: the kernel chooses which a connection goes to. It is accepted at
        once, or within `seconds_max`: behind the usage rows on a slow cable a look at the database may take
        longer than a request waits."""
        for host in hosts:
            for _ in range(12):
                await self.until_served(host, key, seconds_max)

    async def until_served(self, host: str, key: str, seconds_max: float) -> float:
        """Until a key is accepted there."""

        async def served() -> bool:
            return (await self.ask(host, key)).accepted

        return await until(served, seconds_max)

    async def load(self, host: str, key: str, pause: float = 0.0) -> None:
        """One client, until cancelled: twenty requests on each connection, every fourth of them a stream."""
        numbers = itertools.count()
        while True:
            client: RawClient | None = None
            for _ in range(20):
                stream = next(numbers) % 4 == 0
                asked, request = self._request(host, key, "tokens=20", stream, close=False)
                client = client or await self.connect(host, asked)
                if client is None:
                    break
                await _exchange(client, asked, request)
                await trio.sleep(pause)
                if asked.trouble or client.ended:
                    break
            if client is not None:
                await trio.aclose_forcefully(client.stream)
            await trio.sleep(max(pause, 0.05))

    @asynccontextmanager
    async def stream(self, host: str, key: str, seconds: float) -> AsyncIterator[Stream]:
        """A stream that takes so long, running for as long as the context lasts or until its end."""
        tokens = int(seconds * 1000 / STREAM_PACE_MS)
        behaviour = f"tokens={tokens},pace_ms={STREAM_PACE_MS}"
        asked, request = self._request(host, key, behaviour, stream=True, close=True)
        client = await self.connect(host, asked)
        assert client is not None, asked
        running = Stream(asked)
        async with client.stream, trio.open_nursery() as nursery:
            await client.send(request)
            await nursery.start(running.listen, client)
            yield running
            nursery.cancel_scope.cancel()

    async def ledger(self) -> list[dict[str, Any]]:
        """All the provider has seen, once it has nothing under way."""
        while True:
            entries = await self._ledger()
            if all(entry["ended_at"] is not None for entry in entries):
                return entries
            await trio.sleep(0.2)

    async def _ledger(self) -> list[dict[str, Any]]:
        async with await trio.open_tcp_stream(f"{NETS['front']}.5", PROVIDER_PORT) as stream:
            client = RawClient(stream, patience_seconds=PATIENCE_SECONDS)
            await client.send(
                b"GET /_sim/ledger?limit=20000 HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n"
            )
            document = json.loads((await client.read_answer()).body)
        entries: list[dict[str, Any]] = document["entries"]
        assert len(entries) == document["last_seq"], "the provider has forgotten the first of them"
        return entries

    async def probe(self, host: str) -> tuple[int, list[str]]:
        """What a load balancer is told: the status of /readyz, and the reasons."""
        asked = Asked("probe")
        client = await self.connect(host, asked)
        if client is None:
            return 0, [asked.trouble]
        async with client.stream:
            await client.send(b"GET /readyz HTTP/1.1\r\nhost: karta\r\nconnection: close\r\n\r\n")
            answer = await client.read_answer()
        return answer.status, json.loads(answer.body).get("reasons", [])

    def since(self, began: float, **fields: str) -> list[Asked]:
        """What began after that; `fields` narrow it down."""
        return [
            one
            for one in self.history
            if one.began >= began and all(getattr(one, name) == value for name, value in fields.items())
        ]


class Stream:
    """One that runs. `gaps` are the seconds between the pieces that came."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.gaps: list[float] = []
        self.over = trio.Event()

    async def listen(self, client: RawClient, task_status: trio.TaskStatus[None]) -> None:
        head = await client.read_head()
        self.asked.status = head.status
        assert head.status == 200, head
        await client.read_until(b"content_block_delta")
        task_status.started()
        said, last = b"", trio.current_time()
        while data := await client.receive():
            self.gaps.append(trio.current_time() - last)
            last = trio.current_time()
            said = said[-200:] + data
        self.asked.ended = time.time()
        self.asked.trouble = "" if b"message_stop" in said else "cut"
        self.over.set()


async def _exchange(client: RawClient, asked: Asked, request: bytes) -> None:
    began = trio.current_time()
    try:
        await client.send(request)
        answer = await client.read_answer()
    except (AssertionError, trio.BrokenResourceError, trio.TooSlowError) as error:
        asked.trouble = "silent" if isinstance(error, trio.TooSlowError) else "cut"
    else:
        asked.status = answer.status
        asked.take_body(answer.body)
        if answer.status != 200:
            asked.answer = json.loads(answer.body)
        client.ended = answer.headers.get("connection") == "close"
    asked.seconds = trio.current_time() - began
    asked.ended = time.time()


def tally(asked: list[Asked]) -> str:
    """How they ended, in a few words."""
    ends = Counter(one.trouble or str(one.status) for one in asked)
    return ", ".join(f"{count} x {end}" for end, count in sorted(ends.items()))


async def until(condition: Callable[[], Any], seconds_max: float, every: float = 0.05) -> float:
    """Awaits `condition()` until it is true; how many seconds that took. Fails beyond `seconds_max`."""
    began = trio.current_time()
    while not await condition():
        took = trio.current_time() - began
        assert took < seconds_max, f"not within {seconds_max:g} s"
        await trio.sleep(every)
    return trio.current_time() - began
