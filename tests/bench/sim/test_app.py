"""From a request to its answer: refusals in their order, dialects, redirects, planned errors."""

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.sim.app import ENDPOINTS, Simulator
from bench.sim.request import Request
from tests.bench.sim.process import SimProcess, running_sim

CHAT = {"model": "m", "messages": []}
ANTHROPIC = {"anthropic-version": "2026-10-21"}


@pytest.mark.parametrize("key", ["", "Bearer kt_live_abcdefghijkl_x", "Bearer kt_test_x"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/unknown"])
async def test_a_refused_key_is_401_before_all(sim: SimProcess, key: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=sim.base_url) as client:
        reply = await client.post(path, content=b"not json", headers={"authorization": key} if key else {})
    assert reply.status_code == 401
    entry = await sim.latest()
    assert entry["refused"] == ("karta_key" if key else "missing_key")
    assert entry["status"] == 401
    assert entry["credential"] == key.removeprefix("Bearer ")
    if path == "/v1/messages":
        assert reply.json()["error"]["type"] == "authentication_error"
        assert reply.json()["request_id"] == reply.headers["request-id"]
    else:
        assert reply.json()["error"]["code"] == "invalid_api_key"


async def test_leaks_are_noted(http: httpx.AsyncClient, sim: SimProcess) -> None:
    reply = await http.post("/v1/chat/completions", json=CHAT, headers={"x-trace": "kt_live_secret"})
    assert reply.status_code == 401
    entry = await sim.entry(reply.headers["x-request-id"])
    assert (entry["refused"], entry["leaks"]) == ("karta_key", ["x-trace"])


async def test_a_list_of_keys() -> None:
    with running_sim(environment={"KARTA_SIM_KEYS": "sk-one, sk-two"}) as sim:
        async with httpx.AsyncClient(base_url=sim.base_url) as client:
            assert (await client.get("/v1/models", headers={"x-api-key": "sk-two"})).status_code == 200
            assert (await client.get("/v1/models", headers={"x-api-key": "sk-three"})).status_code == 401


async def test_unknown_paths_and_methods(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/unknown")).json()["error"]["type"] == "invalid_request_error"
    found = await http.get("/v1/unknown", headers=ANTHROPIC)
    assert (found.status_code, found.json()["error"]["type"]) == (404, "not_found_error")
    wrong = await http.get("/v1/embeddings")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_the_version_header_tells_where_both_have_the_path(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/models")).json()["object"] == "list"
    assert "first_id" in (await http.get("/v1/models", headers=ANTHROPIC)).json()
    assert "first_id" in (await http.get("/anthropic/v1/models")).json()
    assert (await http.get("/openai/v1/models", headers=ANTHROPIC)).json()["object"] == "list"


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"x"', b"\xff\xfe"])
async def test_a_body_that_is_not_an_object(http: httpx.AsyncClient, body: bytes) -> None:
    reply = await http.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert reply.status_code == 400


async def test_a_behaviour_that_cannot_be_read(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/chat/completions", json=CHAT | {"model": "sim:colour=red"})
    assert reply.status_code == 400
    assert "colour" in reply.json()["error"]["message"]
    assert (await http.get("/v1/models", headers={"x-sim-behaviour": "tokens=x"})).status_code == 400


async def test_redirects_are_answers(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/chat/completions", json=CHAT, headers={"x-sim-behaviour": "redirect=307"})
    assert (reply.status_code, reply.headers["location"]) == (307, "/v1/elsewhere")


async def test_errors_so_many_times(http: httpx.AsyncClient) -> None:
    headers = {"x-sim-behaviour": "error=529,times=2,seed=99"}
    codes = [(await http.get("/v1/models", headers=headers)).status_code for _ in range(4)]
    assert codes == [529, 529, 200, 200]


async def test_another_status(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/models", headers={"x-sim-behaviour": "status=206"})).status_code == 206
    nothing = await http.get("/v1/models", headers={"x-sim-behaviour": "status=204"})
    assert (nothing.status_code, nothing.content) == (204, b"")
    assert "content-length" not in nothing.headers


async def test_wrong_json(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/chat/completions", json=CHAT, headers={"x-sim-behaviour": "malformed=json"})
    with pytest.raises(ValueError, match=r".*"):
        reply.json()


async def test_models_in_paths_and_forms(http: httpx.AsyncClient, sim: SimProcess) -> None:
    reply = await http.get("/v1/models/sim:error=503")
    assert reply.status_code == 503
    assert (await sim.entry(reply.headers["x-request-id"]))["model"] == "sim:error=503"
    form = await http.post("/v1/audio/transcriptions", data={"model": "sim:error=429"}, files={"file": b"x"})
    assert form.status_code == 429


async def test_head_is_get_without_its_body(http: httpx.AsyncClient) -> None:
    get, head = await http.get("/v1/models"), await http.head("/v1/models")
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]
    assert (await http.head("/v1/embeddings")).status_code == 405


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    *("model", "messages", "max_tokens", "stream", "stream_options", "tools", "tool_choice", "thinking", "n"),
    *("input", "prompt", "requests", "response_format", "text", "reasoning", "dimensions", "encoding_format"),
    *("background", "store", "part_ids", "file_ids", "files", "attributes", "metadata", "output_config"),
    *(
        "partial_images",
        "size",
        "input_file_id",
        "endpoint",
        "max_output_tokens",
        "max_completion_tokens",
        "query",
    ),
)
PATHS = sorted(
    {(dialect, path) for dialect, its in ENDPOINTS.items() for method, path in its if method == "POST"}
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_no_body_is_too_odd(called: tuple[str, str], document: dict[str, object]) -> None:
    """Whatever the fields hold: an answer or a 400, never a defect, and never an endless stream."""
    simulator = Simulator()
    request = Request.inner(called[1].replace("{", "").replace("}", ""), document)
    request.headers = [(b"x-api-key", b"k"), (b"content-type", b"application/json")]
    if called[0] == "anthropic":
        request.headers.append((b"anthropic-version", b"2026-10-21"))
    request.headers_complete()
    simulator.receive_head(request, simulator.connections.accepted(None))
    answer = simulator.answer(request)
    assert answer.status in (200, 201, 400, 404)
    assert len(list(answer.event_iterator())) < 5_000
    assert sum(map(len, answer.body_pieces())) < 5_000_000
