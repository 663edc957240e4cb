"""Several scripted providers behind one gateway, and a tenant's routes over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from storage.bridge import Database
from storage.model import RouteTarget
from storage.routes import set_route
from tests.gateway.conftest import ACTOR, Stage, Tenant
from tests.support.gateway import PLATFORM_KEY, RunningGateway, poll
from tests.support.scripted_provider import Handler, ScriptedProvider, scripted_provider, silent


def variables(urls: Mapping[str, str]) -> dict[str, str]:
    """The settings of providers at these URLs, by name."""
    settings = {}
    for name, url in urls.items():
        settings[f"KARTA_PROVIDER_{name.upper()}_BASE_URL"] = url
        settings[f"KARTA_PROVIDER_{name.upper()}_API_KEY"] = PLATFORM_KEY
    return settings


@asynccontextmanager
async def providers(
    stage: Stage, handlers: Mapping[str, Handler | str], **options: Any
) -> AsyncIterator[tuple[RunningGateway, dict[str, ScriptedProvider]]]:
    """A gateway before providers by name; a string instead of a handler is a URL."""
    async with AsyncExitStack() as stack:
        found: dict[str, ScriptedProvider] = {}
        urls = {}
        for name, handler in handlers.items():
            if isinstance(handler, str):
                urls[name] = handler
            else:
                found[name] = await stack.enter_async_context(scripted_provider(handler))
                urls[name] = found[name].base_url
        known = variables(urls)
        gateway, _ = await stack.enter_async_context(stage(silent, provider_variables=known, **options))
        yield gateway, found


async def route(
    gateway: RunningGateway, tenant: Tenant, alias: str, *targets: RouteTarget, db: Database | None = None
) -> None:
    """Set a route, and wait until the gateway knows of it."""
    await poll(lambda: gateway.worker.snapshot.listening)
    await set_route(db or gateway.db, ACTOR, tenant.org_id, alias, targets)
    (caller,) = gateway.authenticator._verified.values()
    await poll(lambda: caller.routes is not None and caller.routes.get(alias, None) is not None)
    await poll(lambda: caller.routes is not None and caller.routes[alias].targets == targets)


def to(provider: str, model: str = "m", **fields: Any) -> RouteTarget:
    return RouteTarget(provider=provider, model=model, **fields)
