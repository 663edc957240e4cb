"""The legacy completion."""

import httpx


async def test_complete_whole_and_streamed(http: httpx.AsyncClient) -> None:
    body = {"model": "claude-2", "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 9}
    whole = (await http.post("/v1/complete", json=body)).json()
    assert (whole["type"], whole["stop_reason"]) == ("completion", "stop_sequence")
    streamed = (await http.post("/v1/complete", json={**body, "stream": True})).text
    assert streamed.count("event: completion") == 13
    assert (await http.post("/v1/complete", json={})).status_code == 400
