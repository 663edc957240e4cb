"""Routes: what the organization means by the name of a model."""

from __future__ import annotations

from admin.management_api import cursors
from admin.management_api.call import Call
from admin.management_api.forms import NewRoute, Page, RouteName, RoutePage
from admin.management_api.values import require_choice, require_printable
from admin.providers import PROVIDERS
from storage.errors import NotFound
from storage.model import CredentialKind, Route, RouteTarget
from storage.routes import remove_route, select_routes, set_route


async def list_routes(call: Call[None, Page]) -> RoutePage:
    after = cursors.read("routes", call.query.cursor, str)
    # Few, by their own bound: so a page is cut from all of them.
    found = sorted(await select_routes(call.db, call.org_id), key=lambda route: route.alias)
    rest = [route for route in found if after is None or route.alias > after]
    items, following = cursors.cut(rest, call.query.limit, "routes", lambda route: route.alias)
    return RoutePage(items=items, next_cursor=following)


async def set_route_of_name(call: Call[NewRoute, None]) -> Route:
    alias = require_printable(call.body.alias, "$.alias")
    targets = [
        RouteTarget(
            provider=require_choice(target.provider, PROVIDERS, f"$.targets[{number}].provider"),
            model=target.model,
            weight=target.weight,
            credential=None if target.credential is None else CredentialKind(target.credential),
            first_byte_seconds=target.first_byte_seconds,
        )
        for number, target in enumerate(call.body.targets)
    ]
    return await set_route(call.db, call.actor, call.org_id, alias, targets)


async def remove_route_of_name(call: Call[None, RouteName]) -> Route:
    removed = await remove_route(call.db, call.actor, call.org_id, call.query.alias)
    if removed is None:
        raise NotFound("there is no route of that name")
    return removed
