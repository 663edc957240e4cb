"""Pages of lists, as both APIs cut them: `limit`, and `after` (OpenAI) or `after_id` (Anthropic)."""

from typing import Any

from bench.sim.request import Request

LIMIT_DEFAULT = 20
LIMIT_MAX = 1_000


def page(request: Request, objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The asked page of the objects, each of which has an `id`, in the shape of the request's API."""
    after = request.asked("after") or request.asked("after_id")
    if after:
        ids = [one["id"] for one in objects]
        objects = objects[ids.index(after) + 1 :] if after in ids else []
    limit = request.asked("limit")
    count = (
        min(int(limit), LIMIT_MAX) if limit.isascii() and limit.isdigit() and int(limit) else LIMIT_DEFAULT
    )
    shown = objects[:count]
    ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
    cut: dict[str, Any] = {"data": shown, "has_more": len(objects) > count, **ends}
    if request.dialect == "openai":
        return {"object": "list", **cut}
    return {**cut, "next_page": None}
