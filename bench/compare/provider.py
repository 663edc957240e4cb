"""The simulated provider of a comparison: started, asked how often it was asked, and told what names mean."""

import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec

from bench.compare.certificate import Certificate
from bench.process import StartFailed, child_process
from bench.targets.base import start_seconds_max

_LOOK_SECONDS_MAX = 10.0


class _Ledger(msgspec.Struct):
    last_seq: int


class Provider:
    """A running simulated provider; `ca_file` is the authority of its certificate if it speaks TLS."""

    def __init__(self, url: str, client: httpx.AsyncClient, ca_file: str | None) -> None:
        self.url = url
        self.ca_file = ca_file
        self._client = client

    async def requests_seen(self) -> int:
        """Return how many requests it has had; raises StartFailed if it is no simulated provider."""
        return msgspec.json.decode(await self._ask("GET", "/_sim/ledger?limit=0"), type=_Ledger).last_seq

    async def name_model(self, name: str, behaviour: str) -> None:
        """Make a model name mean a behaviour from now on."""
        await self._ask("PUT", f"/_sim/models/{quote(name, safe='')}?behaviour={quote(behaviour, safe='')}")

    async def _ask(self, method: str, path: str) -> bytes:
        try:
            answer = await self._client.request(method, self.url + path)
        except httpx.TransportError as error:
            raise StartFailed(f"the provider at {self.url} does not answer: {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise StartFailed(f"{self.url} is no simulated provider: {path} gave {answer.status_code}")
        return answer.content


@asynccontextmanager
async def running_provider(
    directory: Path, cpus: Sequence[int], *, certificate: Certificate | None = None
) -> AsyncIterator[Provider]:
    """Start one, over TLS if there is a (certificate, private key); raises StartFailed."""
    argv = [sys.executable, "-m", "bench.sim", "--port", "0", "--json", "--no-ledger"]
    if certificate is not None:
        argv += ["--certificate", str(certificate.chain), "--private-key", str(certificate.private_key)]
    async with child_process(argv, stderr_path=directory / "sim.stderr", cpus=cpus) as child:
        announced = await child.announcement(start_seconds_max)
        ca_file = str(certificate.authority) if certificate is not None else None
        async with found_provider(announced["base_url"], ca_file) as provider:
            yield provider


@asynccontextmanager
async def found_provider(url: str, ca_file: str | None = None) -> AsyncIterator[Provider]:
    """Use one that runs already."""
    verify = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
    async with httpx.AsyncClient(verify=verify, trust_env=False, timeout=_LOOK_SECONDS_MAX) as client:
        yield Provider(url.rstrip("/"), client, ca_file)
