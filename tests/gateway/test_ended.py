"""Nothing that anybody wrote into a request or an answer can be in what is told of it.

A secret is planted wherever a request or an answer has room for one; of each such request there is a line in
the log, and the secret is in none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import trio

from gateway.refusal import Kind
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import PLATFORM_KEY, RunningGateway
from tests.support.otlp_sink import otlp_sink
from tests.support.requests import ANSWER, BODY, CHAT_BODY, chat, get, post
from tests.support.scripted_provider import Line, answering

SECRET = "sk-ant-api03-PLANTED0123456789abcdef"
HEX = "5ec2e75ec2e75ec2e75ec2e75ec2e75e"
"""What has room for nothing but hexadecimal digits."""
IN_A_TRACE = f"traceparent: 00-{HEX}-{HEX[:16]}-01\r\n"


def body(**changes: Any) -> bytes:
    return json.dumps(json.loads(BODY) | changes).encode()


PLANTED = {
    "in a header that goes up": lambda token: post(token, headers=f"x-request-id: {SECRET}\r\n"),
    "in a header that does not": lambda token: post(token, headers=f"cookie: session={SECRET}\r\n"),
    "in the name of a header": lambda token: post(token, headers=f"x-{SECRET}: 1\r\n"),
    "as the key of another": lambda token: post(token, headers=f"authorization: Bearer {SECRET}\r\n"),
    "as the only key": lambda _: post(SECRET),
    "as a key of this kind": lambda _: post(f"kt_live_{SECRET}"),
    "in a trace": lambda token: post(token, headers=IN_A_TRACE),
    "as the model": lambda token: post(token, body(model=SECRET)),
    "behind a model's name": lambda token: post(token, body(model=f"claude-sonnet-4-5-{SECRET}")),
    "in a message": lambda token: post(token, body(messages=[{"role": "user", "content": SECRET}])),
    "as the user": lambda token: post(token, body(metadata={"user_id": SECRET})),
    "as a number": lambda token: post(token, body(max_tokens=SECRET)),
    "in what is no JSON": lambda token: post(token, f'{{"model":"{SECRET}'.encode()),
    "in the query": lambda token: post(token, path=f"/v1/messages?key={SECRET}"),
    "in the path of something unknown": lambda token: get(token, f"/v1/{SECRET}"),
    "in the path of something known": lambda token: get(token, f"/v1/models/{SECRET}"),
    "in the content type": lambda token: post(token, content_type=f"application/{SECRET}"),
    "as the host": lambda token: post(token).replace(b"host: karta", f"host: {SECRET}".encode()),
    "to OpenAI": lambda token: chat(token, CHAT_BODY.replace(b"gpt-test", SECRET.encode())),
}


async def echoing(line: Line) -> None:
    """A provider that says the secret wherever it can, and all that it was sent."""
    while True:
        try:
            head, sent = await line.read_request()
        except (trio.BrokenResourceError, EOFError):
            return
        said = json.loads(ANSWER) | {"model": SECRET, "id": SECRET, "service_tier": SECRET}
        said["content"] = [{"type": "text", "text": (head + sent).decode("latin-1")}]
        await line.answer(
            json.dumps(said).encode(), headers=f"request-id: {SECRET}\r\nx-{SECRET}: {SECRET}\r\n"
        )


async def read_lines(gateway: RunningGateway, file: Path) -> list[dict[str, Any]]:
    watch = gateway.worker.watch
    assert watch is not None
    assert watch.log is not None
    await watch.log.flush()
    return [json.loads(line) for line in (await trio.Path(file).read_text()).splitlines()]


async def test_no_secret_is_in_a_line_or_a_span(stage: Stage, tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "requests.log"
    file.touch()
    unheard = []
    with otlp_sink() as sink:
        async with stage(echoing, request_log=str(file), traces_url=sink.url) as (gateway, provider):
            for name, make in PLANTED.items():
                before = len(await read_lines(gateway, file))
                await ask_twice(gateway, make(tenant.token))
                if len(await read_lines(gateway, file)) == before:
                    unheard.append(name)
            lines = await read_lines(gateway, file)
            assert gateway.worker.lane.requests > 5
            assert SECRET.encode() in provider.received
            assert gateway.worker.watch is not None
            assert gateway.worker.watch.traces is not None
            await gateway.worker.watch.traces.flush()
        spans = b"".join(sink.received)
    text = await trio.Path(file).read_text()
    assert not unheard
    assert {line["outcome"] for line in lines} == {"completed", "refused"}
    assert sum(line["outcome"] == "refused" for line in lines) >= 6
    assert spans.count(b"POST /v1/messages") > 10
    # The one word of a client's that spans have is the id of its own trace.
    assert HEX[:16] not in text
    for secret in (SECRET, tenant.token, tenant.token.rpartition("_")[2], PLATFORM_KEY):
        assert secret.lower() not in text.lower()
        assert secret.lower().encode() not in spans.lower()


async def ask_twice(gateway: RunningGateway, request: bytes) -> None:
    """On one connection, where it stays: by the task way, and by the lane if it takes such requests."""
    async with gateway.client() as client:
        await client.send(request)
        answer = await client.read_answer()
        if answer.headers.get("connection") != "close":
            await client.send(request)
            await client.read_answer()


async def test_what_is_told_of_an_admitted_request(stage: Stage, tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "requests.log"
    said = ANSWER.replace(b"claude-test", b"claude-sonnet-4-5-20250929")
    async with stage(answering(said), request_log=str(file)) as (gateway, _):
        await gateway.ask(post(tenant.token, body(model="claude-sonnet-4-5")))
        (line,) = await read_lines(gateway, file)
        row = await gateway.only_row()
    assert line["request_id"] == row["request_id"].hex
    assert (line["org_id"], line["key_id"]) == (str(tenant.org_id), tenant.key_id)
    assert (line["api"], line["method"], line["endpoint"]) == ("anthropic", "POST", "/v1/messages")
    assert (line["provider"], line["credential"]) == ("anthropic", "platform")
    assert line["model"] == line["response_model"] == "claude-sonnet-4-5"
    assert (line["status"], line["outcome"], line["error"]) == (200, "completed", None)
    assert (line["input_tokens"], line["output_tokens"], line["usage_complete"]) == (3, 4, True)
    assert line["cost_usd"] == row["cost_picodollars"] / 10**12
    assert 0 < line["verify_ms"] < line["first_byte_ms"] <= line["total_ms"] == row["total_us"] / 1000
    assert line["time"] == row["started_at"].isoformat(timespec="microseconds")


async def test_what_is_told_of_a_refused_request(stage: Stage, tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "requests.log"
    async with stage(answering(ANSWER), request_log=str(file)) as (gateway, _):
        answer = await gateway.ask(post("kt_live_nobody"))
        (line,) = await read_lines(gateway, file)
    assert answer.status == line["status"] == 401
    assert line["request_id"] == answer.headers["x-karta-request-id"]
    assert (line["outcome"], line["error"]) == ("refused", Kind.UNAUTHENTICATED.name.lower())
    assert (line["endpoint"], line["org_id"], line["key_id"], line["model"]) == (
        "/v1/messages",
        None,
        None,
        None,
    )


async def test_a_request_that_failed_is_told_once(stage: Stage, tenant: Tenant, tmp_path: Path) -> None:
    """It has a usage row, and its client gets an error of Karta's own besides."""
    file = tmp_path / "requests.log"

    async def leaving(line: Line) -> None:
        await line.read_request()

    async with stage(leaving, request_log=str(file)) as (gateway, _):
        answer = await gateway.ask(post(tenant.token))
        (line,) = await read_lines(gateway, file)
    assert answer.status == line["status"] == 502
    assert (line["outcome"], line["provider"]) == ("upstream_failed", "anthropic")
