"""Everything that clients do to a gateway, all at once, until cancelled: what `soak` lasts through.

Plain answers and streams, sockets, clients that leave at any moment, wrong keys, keys that are revoked in the
middle of their streams. Each kind is a task that does one thing after the other; `seen` counts them.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from storage.api_keys import revoke_key
from storage.bridge import open_database
from tests.gateway.conftest import ACTOR
from tests.gateway.many_keys import mint_many
from tests.gateway.websocket.sides import ClientSide, opening
from tests.reach.stand import Stand
from tests.support.raw_client import RawClient
from tests.support.requests import chat, post
from tests.support.tokens import GARBAGE, forge, unknown

_SAID = [{"role": "user", "content": "hello"}]
REVOCATION_SECONDS = 2.0
"""Between two of them: each costs a mint and a verification."""


def body(behaviour: str, *, stream: bool) -> bytes:
    document = {"model": f"sim:{behaviour}", "max_tokens": 1000, "messages": _SAID, "stream": stream}
    return json.dumps(document).encode()


class Mixture:
    """Clients of `stand`; `pause` is what each waits between two things, in seconds."""

    def __init__(self, stand: Stand, seed: int, pause: float = 0.02) -> None:
        self._stand = stand
        self._choose = random.Random(seed)
        self._pause = pause
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        """What no client should have seen."""

    async def run(self) -> None:
        kinds = (
            *(self._answers, self._answers, self._streams, self._streams, self._streams),
            *(self._leaving, self._leaving, self._sockets, self._guessing, self._revoking),
        )
        async with trio.open_nursery() as nursery:
            for kind in kinds:
                nursery.start_soon(kind)

    @asynccontextmanager
    async def _client(self, address: str = "127.0.0.1") -> AsyncIterator[RawClient]:
        with trio.socket.socket() as sock:
            await sock.bind((address, 0))
            await sock.connect(("127.0.0.1", self._stand.gateway.port))
            yield RawClient(trio.SocketStream(sock))

    def _note(self, kind: str, status: int, wanted: tuple[int, ...] = (200,)) -> None:
        self.seen[kind] += 1
        if status not in wanted:
            self.wrong.append(f"{kind}: {status}")

    async def _answers(self) -> None:
        token = self._stand.tenant.token
        while True:
            async with self._client() as client:
                for _ in range(self._choose.randint(1, 200)):
                    make = self._choose.choice([post, chat])
                    await client.send(make(token, body("tokens=3", stream=False)))
                    self._note("answers", (await client.read_answer()).status)
                    await trio.sleep(self._pause)

    async def _streams(self) -> None:
        token = self._stand.tenant.token
        while True:
            make, end = self._choose.choice([(post, b"message_stop"), (chat, b"[DONE]")])
            async with self._client() as client:
                await client.send(make(token, body("tokens=20,pace_ms=10", stream=True)))
                answer = await client.read_answer()
                self._note("streams", answer.status)
                if end not in answer.body:
                    self.wrong.append("streams: not whole")

    async def _leaving(self) -> None:
        """In the middle of a stream, or of a request, or before an answer; by FIN or by RST."""
        token = self._stand.tenant.token
        while True:
            request = post(token, body("tokens=50,pace_ms=10", stream=True))
            async with self._client() as client:
                if self._choose.random() < 0.3:
                    await client.send(request[: self._choose.randrange(1, len(request))])
                else:
                    await client.send(request)
                    await trio.sleep(self._choose.random() * 0.2)
                if self._choose.random() < 0.5:
                    await client.reset()
            self.seen["left"] += 1
            await trio.sleep(self._pause)

    async def _sockets(self) -> None:
        token = self._stand.tenant.token
        while True:
            async with self._client() as client:
                await client.send(opening(token, "/v1/responses"))
                answer = await client.read_head()
                self._note("sockets", answer.status, (101,))
                side = ClientSide(client, answer)
                for _ in range(self._choose.randint(1, 5)):
                    await side.send({"type": "response.create", "model": "sim:tokens=3", "input": "Say."})
                    await side.until("response.completed")
                if self._choose.random() < 0.5:
                    await side.close()
            await trio.sleep(self._pause)

    async def _guessing(self) -> None:
        """From an address of its own, as its budget is spent at once."""
        while True:
            async with self._client("127.0.0.66") as client:
                for _ in range(self._choose.randint(1, 500)):
                    token = self._choose.choice([GARBAGE[1], unknown(), forge(self._stand.tenant.token)])
                    await client.send(post(token, body("tokens=1", stream=False)))
                    self._note("wrong keys", (await client.read_answer()).status, (401, 429, 503))
                    await trio.sleep(self._pause / 10)
            await trio.sleep(self._pause)

    async def _revoking(self) -> None:
        tenant = self._stand.tenant
        async with (
            open_database(tenant.database_url, role=None) as owner,
            open_database(tenant.database_url, role="karta_admin") as admin,
        ):
            while True:
                (token,) = await mint_many(owner, tenant, 1)
                async with self._client() as client:
                    await client.send(post(token, body("tokens=10000,pace_ms=10", stream=True)))
                    await client.read_until(b"content_block_delta")
                    await revoke_key(admin, ACTOR, token.split("_")[2])
                    cut = await client.read_to_end()
                self.seen["revoked"] += 1
                if b"event: error" not in cut:
                    self.wrong.append("revoked: not told")
                await trio.sleep(REVOCATION_SECONDS)
