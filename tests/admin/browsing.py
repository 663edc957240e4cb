"""A browser without a screen: keeps cookies as browsers do for http://localhost, follows nothing by
itself."""

from __future__ import annotations

import re
from typing import Any

import httpx

from admin import csrf


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

    async def sign_in(self, email: str, password: str) -> httpx.Response:
        form = {csrf.FIELD: await self.token(), "email": email, "password": password}
        return await self.post("/sign-in", form)


def token_of(page: str) -> str:
    found = re.search(rf'name="{csrf.FIELD}" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]
