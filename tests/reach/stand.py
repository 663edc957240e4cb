"""What every program here stands on: a database with a tenant, a provider, a gateway, and load on it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.request import urlopen

import trio

from bench.load.plan import Expectation, LoadPlan, Question
from bench.load.run import LoadResult, run_load
from storage.migrate import migrate
from tests.bench.sim.process import SimProcess, running_sim
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.ports import free_port
from tests.support.postgres import run_in_own_trio, running_server
from tests.support.raw_client import Answer, RawClient
from tests.support.requests import post
from tests.support.tenant import Tenant, make_template, to_tenant

TEMPLATE = "karta_reach_migrated"
DATABASE = "karta_reach"
ANY = Expectation(status=None)
_SCRAPE_SECONDS_MAX = 10.0


class Stand:
    """Workers before one provider. `folder` takes what the load generators say."""

    def __init__(
        self, tenant: Tenant, gateway: GatewayProcess, provider: SimProcess, folder: Path, metrics_url: str
    ) -> None:
        self.tenant = tenant
        self.gateway = gateway
        self.provider = provider
        self.folder = folder
        self._metrics_url = metrics_url

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    def pids(self) -> list[int]:
        """The processes that serve."""
        return sorted(self.gateway.workers()) or [self.gateway.pid]

    def plan(self, behaviour: str = "tokens=1", *, stream: bool = False, **options: object) -> LoadPlan:
        """A load by the tenant's key; `options` are further fields of a plan."""
        question = Question(behaviour=behaviour, stream=stream)
        fields = {"keys": [self.tenant.token], "question": question, "seconds": 5.0, **options}
        return LoadPlan(base_url=self.url, **fields)  # type: ignore[arg-type]

    async def load(self, plan: LoadPlan) -> LoadResult:
        return await run_load(plan, directory=self.folder, watch=self.pids())

    async def ask(self, token: str | None = None, *, address: str = "127.0.0.1") -> Answer:
        """One request on a connection of its own, from a loopback address."""
        with trio.socket.socket() as sock:
            await sock.bind((address, 0))
            await sock.connect(("127.0.0.1", self.gateway.port))
            client = RawClient(trio.SocketStream(sock))
            await client.send(post(token or self.tenant.token, close=True))
            return await client.read_answer()

    async def warm(self) -> None:
        """Every worker knows the key: each connection goes to one that the kernel chooses."""
        for _ in range(8 * len(self.pids())):
            answer = await self.ask()
            assert answer.status == 200, answer

    async def figures(self) -> Counter[str]:
        """The metrics by name, without `karta_gateway_`; of all labels together."""
        page = await trio.to_thread.run_sync(self._scrape)
        found: Counter[str] = Counter()
        for line in page.splitlines():
            if line and not line.startswith("#"):
                label, value = line.rsplit(" ", 1)
                name = label.partition("{")[0].removeprefix("karta_gateway_")
                found[name] += float(value)  # type: ignore[assignment]
        return found

    def _scrape(self) -> str:
        with urlopen(self._metrics_url, timeout=_SCRAPE_SECONDS_MAX) as page:
            return str(page.read().decode())


@asynccontextmanager
async def stand(tenant: Tenant, folder: Path, *, workers: int = 2, **variables: str) -> AsyncIterator[Stand]:
    """Everything started, and the tenant's key known."""
    port = free_port()
    with running_sim() as provider:
        async with gateway_process(
            tenant.database_url,
            folder / f"spool-{port}",
            provider_url=provider.base_url,
            master_keys=tenant.master_keys,
            workers=workers,
            KARTA_METRICS_BIND=f"127.0.0.1:{port}",
            **variables,
        ) as gateway:
            made = Stand(tenant, gateway, provider, folder, f"http://127.0.0.1:{port}/metrics")
            await made.warm()
            yield made
            # In order, or its workers would still ship what they have when the folder is gone.
            assert await gateway.stop() == 0


@contextmanager
def prepared() -> Iterator[tuple[Tenant, Path]]:
    """A tenant in a database server of the program's own, and a folder."""
    with running_server() as server, tempfile.TemporaryDirectory() as name:
        server.create_database(TEMPLATE)
        run_in_own_trio(migrate, server.url(TEMPLATE))
        made = make_template(server, TEMPLATE, DATABASE)
        yield to_tenant(server.url(DATABASE), made, Path(name)), Path(name)


Measure = Callable[[Tenant, Path, argparse.Namespace], Awaitable[None]]


def main(measure: Measure, parser: argparse.ArgumentParser) -> None:
    """Run one program: exit status 1, with the reason, when a figure is not what it must be."""
    given = parser.parse_args()
    with prepared() as (tenant, folder):
        try:
            trio.run(measure, tenant, folder, given)
        except BaseExceptionGroup as group:
            failed = group.subgroup(AssertionError)
            if failed is None:
                raise
            error: BaseException = failed
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            sys.exit(f"not reached: {error}")
        except AssertionError as error:
            sys.exit(f"not reached: {error}")


def tell(what: str, figure: str) -> None:
    """One line of the result."""
    print(f"{what:44}  {figure}", flush=True)
