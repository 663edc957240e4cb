"""Routes by key: set whole, listed by name, removed; with any name a model may have."""

from __future__ import annotations

from tests.admin.management_api.client import Client, check

TARGETS = [
    {"provider": "anthropic", "model": "claude-sonnet-5-5", "weight": 3},
    {"provider": "openai", "model": "gpt-6-sol", "credential": "byok", "first_byte_seconds": 2.5},
]


async def test_a_route_is_set_replaced_and_removed(api: Client) -> None:
    path = f"{api.org}/routes"
    names = ["a/b?c=d%20", "..", "best", "Ünïcode \U0001f600"]
    for name in names:
        made = await api.call("PUT", path, json={"alias": name, "targets": TARGETS})
        assert made.status_code == 200, made.text
        check("Route", made.json())
        assert made.json()["targets"][1] == {"weight": None, **TARGETS[1]}
    replaced = await api.call("PUT", path, json={"alias": "best", "targets": TARGETS[:1]})
    assert len(replaced.json()["targets"]) == 1
    assert [item["alias"] for item in await api.all_items(path, 3)] == sorted(names)
    for name in names:
        assert (await api.call("DELETE", path, params={"alias": name})).status_code == 200
        assert (await api.call("DELETE", path, params={"alias": name})).status_code == 404
    assert (await api.get(path))["items"] == []


WHAT_IS_NO_ROUTE = [
    {"alias": "", "targets": TARGETS},
    {"alias": "a\0", "targets": TARGETS},
    {"alias": "x" * 201, "targets": TARGETS},
    {"alias": "x", "targets": []},
    {"alias": "x", "targets": TARGETS * 5},
    {"alias": "x", "targets": [{"provider": "nobody", "model": "m"}]},
    {"alias": "x", "targets": [{"provider": "openai", "model": "a b"}]},
    {"alias": "x", "targets": [{"provider": "openai", "model": "m\n"}]},
    {"alias": "x", "targets": [{"provider": "openai", "model": "m", "weight": 0}]},
    {"alias": "x", "targets": [{"provider": "openai", "model": "m", "credential": "simulated"}]},
    {"alias": "x", "targets": [{"provider": "openai", "model": "m", "first_byte_seconds": 0}]},
]


async def test_what_is_no_route(api: Client) -> None:
    for body in WHAT_IS_NO_ROUTE:
        assert (await api.call("PUT", f"{api.org}/routes", json=body)).status_code == 422
        assert (await api.get(f"{api.org}/routes"))["items"] == []


async def test_a_route_is_removed_by_its_name_alone(api: Client) -> None:
    for query in ({}, {"alias": ""}, {"alias": "x", "all": "yes"}, {"alias": ["x", "y"]}):
        assert (await api.call("DELETE", f"{api.org}/routes", params=query)).status_code == 422
