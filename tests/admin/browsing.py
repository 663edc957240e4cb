"""A browser without a screen: keeps cookies as browsers do for http://localhost, follows nothing by
itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
import trio

from admin import csrf
from tests.support.raw_client import Answer, RawClient


class Visitor:
    """httpx keeps secure cookies back on plain http, also on localhost, where browsers do not: so they
    are kept here."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies: dict[str, str] = {}
        self._client = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)

    async def __aenter__(self) -> Visitor:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = await self._client.request(method, path, headers=headers, **options)
        for line in response.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if value and "Max-Age=0" not in line:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return response

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("GET", path, **options)

    async def post(self, path: str, form: dict[str, str], **options: Any) -> httpx.Response:
        return await self.request("POST", path, data=form, **options)

    async def token(self, path: str = "/sign-in") -> str:
        """The form token of a page."""
        return token_of((await self.get(path)).text)

    async def submit(self, page: str, form: dict[str, str], action: str | None = None) -> httpx.Response:
        """Opens a page and sends its form, to the page's own address unless `action` says another."""
        return await self.post(action or page, {csrf.FIELD: await self.token(page), **form})

    async def hold_back(self, path: str, form: Mapping[str, str]) -> HeldBack:
        """Sends the form of a page, but for its last byte."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
        return await HeldBack.begin(self.url, f"POST {path}", headers, urlencode(form).encode())

    async def sign_in(self, email: str, password: str) -> httpx.Response:
        form = {csrf.FIELD: await self.token(), "email": email, "password": password}
        return await self.post("/sign-in", form)


class HeldBack:
    """A request of which the last byte is still to come."""

    def __init__(self, client: RawClient, last: bytes) -> None:
        self._client = client
        self._last = last

    @classmethod
    async def begin(cls, url: str, line: str, headers: Mapping[str, str], body: bytes) -> HeldBack:
        """`line` is method and path. On return the server knows of it: it has asked for the body."""
        where = httpx.URL(url)
        client = RawClient(await trio.open_tcp_stream("127.0.0.1", where.port or 0))
        told = {"Host": f"{where.host}:{where.port}", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        await client.send(f"{line} HTTP/1.1\r\n{head}Expect: 100-continue\r\n\r\n".encode())
        assert (await client.read_head()).status == 100
        await client.send(body[:-1])
        return cls(client, body[-1:])

    async def finish(self) -> Answer:
        await self._client.send(self._last)
        return await self.read_answer()

    async def read_answer(self) -> Answer:
        answer = await self._client.read_answer()
        await self._client.close()
        return answer


def token_of(page: str) -> str:
    found = re.search(rf'name="{csrf.FIELD}" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]
