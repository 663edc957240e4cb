"""May they, and with whose key: the organization's own before the platform's, and nothing out of scope."""

from __future__ import annotations

import json

import pytest
import trio

from storage.api_keys import mint_key
from storage.credentials import revoke_credential, rotate_credential
from storage.model import Mode, Plan
from storage.organizations import set_plan
from storage.sealing import MasterKeys
from tests.gateway.conftest import ACTOR, Stage, Tenant, set_byok
from tests.support.gateway import PATIENCE_SECONDS, PLATFORM_KEY, SIMULATED_KEY, RunningGateway, poll
from tests.support.requests import ANSWER, BODY, chat, get, post
from tests.support.scripted_provider import Line, ScriptedProvider, answering, scripted_provider, silent

OWN_KEY = "sk-ant-own-secret-0001"
OTHER_KEY = "sk-ant-own-secret-0002"


def keys_seen(provider: ScriptedProvider) -> list[str]:
    """The credential of each request that reached the provider, in order on each connection."""
    names = (b"x-api-key: ", b"authorization: ")
    lines = provider.received.split(b"\r\n")
    return [line.partition(b": ")[2].decode() for line in lines if line.startswith(names)]


async def until_key(gateway: RunningGateway, provider: ScriptedProvider, token: str, key: str) -> None:
    """Ask until the provider is shown that key."""
    with trio.fail_after(PATIENCE_SECONDS):
        while keys_seen(provider)[-1:] != [key]:
            assert (await gateway.ask(post(token))).status == 200


async def test_an_own_key_goes_before_the_platforms(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        await poll(lambda: gateway.worker.snapshot.listening)
        await gateway.ask(post(own_tenant.token))
        assert keys_seen(provider) == [PLATFORM_KEY]
        credential_id = await set_byok(gateway.db, own_tenant, OWN_KEY)
        await until_key(gateway, provider, own_tenant.token, OWN_KEY)
        rows = await gateway.settled(len(keys_seen(provider)))
        # Another provider's key stays the platform's.
        await gateway.ask(chat(own_tenant.token))
        assert keys_seen(provider)[-1] == f"Bearer {PLATFORM_KEY}"
    assert (rows[0]["credential_kind"], rows[0]["credential_id"]) == ("platform", None)
    assert (rows[-1]["credential_kind"], rows[-1]["credential_id"]) == ("byok", credential_id)
    assert own_tenant.token.encode() not in provider.received


async def test_rotation_and_revocation_reach_the_next_request(stage: Stage, own_tenant: Tenant) -> None:
    keys = MasterKeys.parse(own_tenant.master_keys)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        await poll(lambda: gateway.worker.snapshot.listening)
        credential_id = await set_byok(gateway.db, own_tenant, OWN_KEY)
        await until_key(gateway, provider, own_tenant.token, OWN_KEY)
        await rotate_credential(gateway.db, ACTOR, keys, credential_id, bytearray(OTHER_KEY.encode()))
        await until_key(gateway, provider, own_tenant.token, OTHER_KEY)
        await revoke_credential(gateway.db, ACTOR, credential_id)
        await until_key(gateway, provider, own_tenant.token, PLATFORM_KEY)


async def test_a_request_under_way_keeps_its_key_when_that_is_rotated(
    stage: Stage, own_tenant: Tenant
) -> None:
    rotated = trio.Event()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await rotated.wait()
            await line.answer(ANSWER)

    keys = MasterKeys.parse(own_tenant.master_keys)
    async with stage(provider, of=own_tenant) as (gateway, provider_), gateway.client() as client:
        await poll(lambda: gateway.worker.snapshot.listening)
        epoch = gateway.worker.snapshot.epoch
        credential_id = await set_byok(gateway.db, own_tenant, OWN_KEY)
        (record,) = gateway.worker.snapshot._records.values()
        await poll(lambda: record.key.credentials)
        await client.send(post(own_tenant.token))
        await poll(lambda: provider_.received)
        await rotate_credential(gateway.db, ACTOR, keys, credential_id, bytearray(OTHER_KEY.encode()))
        await poll(lambda: gateway.worker.snapshot.epoch > epoch + 1)
        rotated.set()
        assert (await client.read_answer()).body == ANSWER
        assert keys_seen(provider_) == [OWN_KEY]


async def test_without_any_key_the_mend_is_told(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant, platform_key=None) as (gateway, provider):
        refused = await gateway.ask(post(own_tenant.token))
        assert refused.status == 403
        assert "karta byok set" in json.loads(refused.body)["error"]["message"]
        assert provider.lines == []
        assert await gateway.settled(0) == []


async def test_a_plan_without_own_keys_refuses_them_at_once(stage: Stage, own_tenant: Tenant) -> None:
    """Not by the platform's account instead, until somebody says so by revoking the key."""
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        await poll(lambda: gateway.worker.snapshot.listening)
        credential_id = await set_byok(gateway.db, own_tenant, OWN_KEY)
        await until_key(gateway, provider, own_tenant.token, OWN_KEY)
        await set_plan(gateway.db, ACTOR, own_tenant.org_id, Plan.FREE)
        (record,) = gateway.worker.snapshot._records.values()
        await poll(lambda: record.suspended)
        asked = len(provider.lines)
        refused = await gateway.ask(post(own_tenant.token))
        assert refused.status == 403
        assert "suspended" in json.loads(refused.body)["error"]["message"]
        assert len(provider.lines) == asked
        await set_plan(gateway.db, ACTOR, own_tenant.org_id, Plan.PRO)
        await poll(lambda: record.key.credentials)
        await until_key(gateway, provider, own_tenant.token, OWN_KEY)
        await set_plan(gateway.db, ACTOR, own_tenant.org_id, Plan.FREE)
        await poll(lambda: record.suspended)
        await revoke_credential(gateway.db, ACTOR, credential_id)
        await poll(lambda: not record.suspended)
        await until_key(gateway, provider, own_tenant.token, PLATFORM_KEY)


@pytest.mark.parametrize("ask", [post, chat], ids=["anthropic", "openai"])
async def test_a_test_key_reaches_the_simulated_provider_only(
    ask: object, stage: Stage, own_tenant: Tenant
) -> None:
    assert callable(ask)
    async with (
        scripted_provider(answering(ANSWER)) as simulated,
        stage(silent, of=own_tenant, simulated_url=simulated.base_url) as (gateway, live),
    ):
        await set_byok(gateway.db, own_tenant, OWN_KEY)
        await gateway.trust(own_tenant.test_token)
        assert (await gateway.ask(ask(own_tenant.test_token))).body == ANSWER
        row = await gateway.only_row()
        assert live.lines == []
    assert keys_seen(simulated)[0].removeprefix("Bearer ") == SIMULATED_KEY
    assert (row["credential_kind"], row["provider"]) == ("simulated", "simulated")


async def test_a_test_key_without_a_simulated_provider_waits(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent) as (gateway, provider):
        await gateway.trust(tenant.test_token)
        refused = await gateway.ask(post(tenant.test_token))
        assert (refused.status, refused.headers["retry-after"]) == (503, "60")
        assert provider.lines == []


# Bodies for a key that may ask for "claude-test" only, and the answer's status.
SCOPED = {
    "allowed": (BODY, 200),
    "another": (b'{"model":"claude-other","messages":[]}', 403),
    "none": (b'{"messages":[]}', 403),
    "not a name": (b'{"model":["claude-test"],"messages":[]}', 403),
    "empty": (b"", 403),
    "twice, allowed last": (b'{"model":"claude-other","model":"claude-test"}', 400),
    "twice, allowed first": (b'{"model":"claude-test","model":"claude-other"}', 403),
    "twice, in disguise": (rb'{"mod\u0065l":"claude-other","model":"claude-test"}', 400),
    "twice, both in disguise": (rb'{"\u006dodel":"claude-other","mod\u0065l":"claude-test"}', 400),
    "one in disguise": (rb'{"\u006dodel":"claude-test"}', 200),
    "within something else": (b'{"model":"claude-test","metadata":{"model":"x"}}', 200),
    "in a text": (rb'{"model":"claude-test","messages":[{"content":"\"model\":\"x\""}]}', 200),
    "broken": (b'{"model":"claude-test"', 400),
    "a fallback": (b'{"model":"claude-test","fallbacks":[{"model":"claude-other"}]}', 403),
    "a fallback in disguise": (
        rb'{"model":"claude-test","fall\u0062acks":[{"mod\u0065l":"claude-other"}]}',
        403,
    ),
    "fallbacks twice": (
        b'{"model":"claude-test","fallbacks":[{"model":"claude-other"}],"fallbacks":null}',
        403,
    ),
    "a fallback's model twice": (
        b'{"model":"claude-test","fallbacks":[{"model":"claude-other","model":"claude-test"}]}',
        403,
    ),
    "fallbacks of the provider's": (b'{"model":"claude-test","fallbacks":"default"}', 403),
    "a fallback that is allowed": (b'{"model":"claude-test","fallbacks":[{"model":"claude-test"}]}', 200),
    "no fallbacks": (b'{"model":"claude-test","fallbacks":null}', 200),
    "fallbacks of another form": (b'{"model":"claude-test","fallbacks":["claude-other"]}', 400),
    "an advisor": (
        b'{"model":"claude-test","tools":[{"type":"advisor_20260301","name":"advisor","model":"claude-other"}]}',
        403,
    ),
    "an advisor that is allowed": (
        b'{"model":"claude-test","tools":[{"type":"advisor_20260301","name":"advisor","model":"claude-test"}]}',
        200,
    ),
    "tools without models": (
        b'{"model":"claude-test","tools":[{"name":"car","input_schema":{"properties":{"model":{"type":"string"}}}}]}',
        200,
    ),
    "a list of models": (b'{"model":"claude-test","models":["claude-test","claude-other"]}', 403),
}

# What has models run that its own request does not say, or that Karta does not read of it.
UNNAMED = (
    (post, "/v1/messages/batches"),
    (post, "/v1/sessions"),
    (post, "/v1/deployments"),
    (chat, "/v1/batches"),
    (chat, "/v1/threads/runs"),
    (chat, "/v1/threads/thread_1/runs"),
    (chat, "/v1/agents/sessions"),
    (chat, "/v1/evals/eval_1/runs"),
    (chat, "/v1/fine_tuning/jobs"),
    (chat, "/v1/realtime/client_secrets"),
    (chat, "/v1/videos"),
)


async def mint_scoped(gateway: RunningGateway, tenant: Tenant, model: str) -> str:
    """A key for that model, known to the gateway."""
    _, token = await mint_key(
        gateway.db, ACTOR, org_id=tenant.org_id, name="scoped", mode=Mode.LIVE, allowed_models=[model]
    )
    await gateway.trust(token)
    return token


async def test_a_scope_of_models_cannot_be_got_round(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        token = await mint_scoped(gateway, own_tenant, "claude-test")
        for name, (body, status) in SCOPED.items():
            answer = await gateway.ask(post(token, body))
            assert answer.status == status, name
        assert b"claude-other" not in provider.received
        for ask, path in UNNAMED:
            refused = await gateway.ask(ask(token, BODY, path=path))
            assert refused.status == 403, path
            assert "use a key whose scope names none" in json.loads(refused.body)["error"]["message"], path
        # What is not a question to a model is not in question.
        assert (await gateway.ask(get(token))).status == 200
        assert (await gateway.ask(chat(token, b"{}", path="/v1/vector_stores"))).status == 200
        refused = json.loads((await gateway.ask(chat(token, b'{"model":"gpt"}'))).body)
        assert refused["error"]["code"] == "model_not_allowed"


FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
# What looks like JSON in a recording is none.
RECORDING = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
    rb'{"model":"x","model":"y","models":["z"],"tools":7,"\u0000"'
    b"\r\n"
)
FORMS = {
    "its own": (RECORDING + PART % b"whisper-1" + b"--b--", 200),
    "another": (RECORDING + PART % b"dear" + b"--b--", 403),
    "none": (RECORDING + b"--b--", 403),
    "two": (PART % b"whisper-1" + RECORDING + PART % b"dear" + b"--b--", 403),
    "one twice": (PART % b"whisper-1" + RECORDING + PART % b"whisper-1" + b"--b--", 403),
    "two to some": (PART % b"whisper-1" + (PART % b"dear").replace(b"\r", b"") + b"--b--", 403),
    "a list": (PART % b"whisper-1" + (PART % b"dear").replace(b"model", b"model[]") + b"--b--", 403),
    "JSON": (b'{"model":"whisper-1"}', 403),
}


async def test_a_scope_of_models_holds_for_forms(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        token = await mint_scoped(gateway, own_tenant, "whisper-1")
        for path in ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"):
            for name, (body, status) in FORMS.items():
                request = post(token, body, path=path, content_type=FORM)
                assert (await gateway.ask(request)).status == status, name
                # By the head that is known by now, and with a body that comes in two.
                assert (await gateway.ask(request)).status == status, name
                assert await status_of_two(gateway, request) == status, name
            # Of one that streams nobody knows what is still to come.
            assert await status_of_two(gateway, in_chunks(token, path, FORMS["its own"][0])) == 403
        assert b"dear" not in provider.received


async def status_of_two(gateway: RunningGateway, request: bytes) -> int:
    async with gateway.client() as client:
        await client.send(request[:-20])
        await trio.sleep(0.02)
        await client.send(request[-20:])
        return (await client.read_answer()).status


def in_chunks(token: str, path: str, body: bytes) -> bytes:
    head = post(token, b"", path=path, content_type=FORM)
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head.replace(b"content-length: 0", b"transfer-encoding: chunked") + framed


async def test_a_shared_account_is_not_for_everybodys_files(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant, platform_account_shared=True) as (gateway, provider):
        await poll(lambda: gateway.worker.snapshot.listening)
        refused = await gateway.ask(get(own_tenant.token, "/v1/files"))
        assert refused.status == 403
        assert "karta byok set" in json.loads(refused.body)["error"]["message"]
        assert provider.lines == []
        assert (await gateway.ask(post(own_tenant.token))).status == 200
        # With a key of its own the organization sees its own account.
        await set_byok(gateway.db, own_tenant, OWN_KEY)
        await until_key(gateway, provider, own_tenant.token, OWN_KEY)
        assert (await gateway.ask(get(own_tenant.token, "/v1/files"))).status == 200


# Bodies that go on from what an earlier request left in the account.
KEPT = {
    "a response": (chat, "/v1/responses", b'{"model":"m","previous_response_id":"resp_1"}'),
    "a conversation": (chat, "/v1/responses", b'{"model":"m","conversation":{"id":"conv_1"}}'),
    "a response in disguise": (
        chat,
        "/v1/responses",
        rb'{"model":"m","previous_respons\u0065_id":"resp_1"}',
    ),
    "a response to compact": (
        chat,
        "/v1/responses/compact",
        b'{"model":"m","previous_response_id":"resp_1"}',
    ),
    "a response to count": (chat, "/v1/responses/input_tokens", b'{"previous_response_id":"resp_1"}'),
    "a container": (post, "/v1/messages", b'{"model":"m","container":"container_1"}'),
    "a thread": (
        post,
        "/v1/messages",
        b'{"model":"m","thread":{"type":"continue","previous_message_id":"msg_1"}}',
    ),
}


async def test_a_shared_account_is_not_for_what_others_left_there(stage: Stage, own_tenant: Tenant) -> None:
    token = own_tenant.token
    async with stage(answering(ANSWER), of=own_tenant, platform_account_shared=True) as (gateway, provider):
        await poll(lambda: gateway.worker.snapshot.listening)
        # The second is known by its head, as all that follow are.
        for ask, path, body in (*KEPT.values(), *KEPT.values()):
            assert (await gateway.ask(ask(token, b'{"model":"m"}', path=path))).status == 200
            refused = await gateway.ask(ask(token, body, path=path))
            assert refused.status == 403, path
            message = json.loads(refused.body)["error"]["message"]
            assert "karta byok set" in message
            assert "send what is in it" in message
        # Nothing of a body that is not looked at goes up, either.
        streamed = chat(token, b'{"previous_response_id":"resp_1"}', path="/v1/responses")
        head, _, body = streamed.replace(b"application/json", b"text/plain").partition(b"\r\n\r\n")
        async with gateway.client() as client:
            await client.send(head + b"\r\n\r\n")
            assert (await client.read_answer()).status == 403
        assert b"resp_1" not in provider.received
        # An own account has nothing of others.
        await set_byok(gateway.db, own_tenant, OWN_KEY)
        await until_key(gateway, provider, token, OWN_KEY)
        ask, path, body = KEPT["a container"]
        assert (await gateway.ask(ask(token, body, path=path))).status == 200


async def test_an_account_of_one_s_own_is_for_all_that_is_kept(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _):
        for ask, path, body in KEPT.values():
            assert (await gateway.ask(ask(tenant.token, body, path=path))).status == 200
