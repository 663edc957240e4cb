"""Looking at the simulator: ledger, connections, state."""

import httpx

from tests.bench.sim.process import SimProcess, running_sim


async def test_the_ledger_by_cursor_and_cleared(http: httpx.AsyncClient, sim: SimProcess) -> None:
    before = (await sim.look("/_sim/ledger?limit=0"))["last_seq"]
    for _ in range(3):
        await http.get("/v1/models?after=1", headers={"x-marked": "yes"})
    found = await sim.look(f"/_sim/ledger?after={before}&headers=1")
    assert [entry["seq"] for entry in found["entries"]] == [before + 1, before + 2, before + 3]
    entry = found["entries"][0]
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/v1/models?after=1", 200)
    assert ["x-marked", "yes"] in entry["headers"]
    assert len((await sim.look(f"/_sim/ledger?after={before}&limit=1"))["entries"]) == 1
    await http.delete("/_sim/ledger")
    assert (await sim.look("/_sim/ledger"))["entries"] == []


async def test_connections_tell_of_bytes(sim: SimProcess) -> None:
    async with await sim.dial() as silent:
        port = silent.socket.getsockname()[1]
        document = await sim.look("/_sim/connections")
        mine = [one for one in document["open"] if one["peer"].endswith(f":{port}")]
        assert [(one["bytes_received"], one["requests"]) for one in mine] == [(0, 0)]
        await silent.send_all(b"GET /v1/models HT")
        document = await sim.look("/_sim/connections")
        mine = [one for one in document["open"] if one["peer"].endswith(f":{port}")]
        assert mine[0]["bytes_received"] == 17
        assert not mine[0]["inspection"]
    assert any(one["inspection"] for one in document["open"])


async def test_what_is_not_there(http: httpx.AsyncClient) -> None:
    assert (await http.get("/_sim/nothing")).status_code == 404
    assert (await http.get("/_sim/ledger?after=x")).status_code == 400
    assert (await http.get("/_sim/health")).json() == {"ok": True, "failures": 0}


async def test_forgetting() -> None:
    with running_sim() as sim:
        async with httpx.AsyncClient(base_url=sim.base_url, headers={"x-api-key": "k"}) as client:
            await client.post("/v1/vector_stores", json={"name": "a"})
            assert len((await client.get("/v1/vector_stores")).json()["data"]) == 1
            assert (await client.delete("/_sim/state")).json() == {"cleared": True}
            assert (await client.get("/v1/vector_stores")).json()["data"] == []
            assert (await client.delete("/_sim/connections")).json() == {"cleared": True}


async def test_a_models_own_name_means_a_behaviour() -> None:
    with running_sim() as sim:
        async with httpx.AsyncClient(base_url=sim.base_url, headers={"x-api-key": "k"}) as client:
            asked = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
            for tokens in (3, 7):
                named = await client.put("/_sim/models/gpt-4o", params={"behaviour": f"tokens={tokens}"})
                assert named.json() == {"model": "gpt-4o", "behaviour": f"tokens={tokens}"}
                # Also after the answer to the same question was kept ready.
                answer = (await client.post("/v1/chat/completions", json=asked)).json()
                assert (answer["model"], answer["usage"]["completion_tokens"]) == ("gpt-4o", tokens)
            assert (await client.put("/_sim/models/m", params={"behaviour": "no"})).status_code == 400
            for number in range(64):
                last = await client.put(f"/_sim/models/{number}", params={"behaviour": "tokens=1"})
            assert last.status_code == 400
