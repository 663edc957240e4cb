"""Every operation of both SDKs has an answer, in its API's shapes."""

from importlib.resources import files

import httpx
import pytest

from tests.bench.sim.process import SimProcess

LINES = [
    line.split()
    for line in files("bench.sim").joinpath("paths.txt").read_text().splitlines()
    if not line.startswith("#")
]


def concrete(template: str, dialect: str) -> str:
    """The template with made-up, percent-encoded parameters, other ones for each API."""
    return "/".join(f"{dialect}%2F{n}" if s.startswith("{") else s for n, s in enumerate(template.split("/")))


@pytest.mark.parametrize("dialect", ["anthropic", "openai"])
async def test_every_operation_answers(dialect: str, sim: SimProcess) -> None:
    headers = {"authorization": "Bearer k"} | (
        {"anthropic-version": "2026-10-21"} if dialect == "anthropic" else {}
    )
    called, refused = 0, set()
    async with httpx.AsyncClient(base_url=sim.base_url, headers=headers) as client:
        operations = [
            (method.rstrip("ebls"), template)
            for its_dialect, methods, template in LINES
            if its_dialect == dialect
            for method in methods.split(",")
        ]
        # What is deleted is gone, so deletions come last.
        for method, template in sorted(operations, key=lambda one: one[0] == "DELETE"):
            reply = await client.request(method, f"{concrete(template, dialect)}?beta=true&key[]=1")
            assert reply.headers["request-id" if dialect == "anthropic" else "x-request-id"]
            called += 1
            if reply.status_code not in (200, 201):
                refused.add((method, template, reply.status_code))
    assert called >= {"anthropic": 272, "openai": 379}[dialect]
    # Only the operations with an endpoint of their own look at their body.
    assert {status for _, _, status in refused} <= {400}
    assert all(method == "POST" for method, _, _ in refused)
    assert len(refused) < 20


async def test_an_object_echoes_the_call(http: httpx.AsyncClient) -> None:
    found = (await http.post("/v1/evals/e%2F1/runs?x[]=1", json={"a": 1})).json()
    assert found["object"] == "run"
    assert (found["method"], found["path"], found["query"]) == ("POST", "/v1/evals/e%2F1/runs", "x[]=1")
    assert found["body_bytes"] == 7


async def test_lists_are_paged(http: httpx.AsyncClient) -> None:
    first = (await http.get("/v1/evals?limit=1")).json()
    assert first["has_more"]
    rest = (await http.get(f"/v1/evals?limit=1&after={first['last_id']}")).json()
    assert not rest["has_more"]
    assert rest["data"][0]["id"] != first["data"][0]["id"]


async def test_deletions_binaries_streams_and_nothing(http: httpx.AsyncClient) -> None:
    gone = (await http.delete("/v1/evals/e1")).json()
    assert gone == {"id": "e1", "object": "eval.deleted", "deleted": True}
    gone = (await http.delete("/v1/environments/e1")).json()
    assert gone == {"id": "e1", "type": "environment_deleted"}
    video = await http.get("/v1/videos/v1/content")
    assert len(video.content) == 2_048
    long = await http.get("/v1/videos/v1/content", headers={"x-sim-behaviour": "bytes=100000"})
    assert len(long.content) == 100_000
    events = await http.get("/v1/sessions/s1/events/stream")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.count("event: event") == 4
    empty = await http.post("/v1/realtime/calls/c1/hangup")
    assert (empty.status_code, empty.content) == (200, b"")
