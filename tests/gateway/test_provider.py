"""The upstream providers: from table and settings, every problem told, no secret shown."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import genai_prices.data
import pytest
import trustme

from gateway.provider import AuthStyle, Origin, Provider, ProviderError, load, make_provider, read_table
from gateway.refusal import Dialect


def make(
    base_url: str, *, api_key: str | None = None, ca_file: str | None = None, development: bool = False
) -> Provider:
    return make_provider(
        "x",
        Dialect.OPENAI,
        AuthStyle.BEARER,
        base_url,
        api_key=api_key,
        ca_file=ca_file,
        development=development,
    )


def problem(base_url: str = "https://x.example", **keywords: str | bool) -> str:
    with pytest.raises(ProviderError) as caught:
        make(base_url, **keywords)  # type: ignore[arg-type]
    return str(caught.value)


def test_the_table_names_the_two_apis() -> None:
    providers = load({}, development=False)
    assert set(providers) == {name for name, row in read_table().items() if row.base_url is not None}
    anthropic, openai = providers["anthropic"], providers["openai"]
    assert anthropic.origin == Origin("api.anthropic.com", 443, True)
    assert (anthropic.dialect, anthropic.auth) == (Dialect.ANTHROPIC, AuthStyle.CLIENT)
    assert (anthropic.host_header, anthropic.prefix, anthropic.platform_key) == (
        b"api.anthropic.com",
        b"",
        None,
    )
    assert openai.origin == Origin("api.openai.com", 443, True)
    assert (openai.dialect, openai.auth) == (Dialect.OPENAI, AuthStyle.BEARER)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("anthropic", "https://api.anthropic.com/v1/messages"),
        ("openai", "https://api.openai.com/v1/chat/completions"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("mistral", "https://api.mistral.ai/v1/chat/completions"),
        ("groq", "https://api.groq.com/openai/v1/chat/completions"),
        ("xai", "https://api.x.ai/v1/chat/completions"),
        ("deepseek", "https://api.deepseek.com/v1/chat/completions"),
        ("deepseek_anthropic", "https://api.deepseek.com/anthropic/v1/messages"),
        ("openrouter", "https://openrouter.ai/api/v1/chat/completions"),
    ],
)
def test_where_requests_to_a_provider_go(name: str, url: str) -> None:
    provider = load({}, development=False)[name]
    asked = b"/v1/messages" if provider.dialect is Dialect.ANTHROPIC else b"/v1/chat/completions"
    path = provider.path(asked)
    assert f"https://{provider.host_header.decode()}{path.decode()}" == url
    assert provider.own_path(path) == asked
    assert provider.usage_dialect is provider.dialect


def test_a_provider_of_one_s_own_exists_once_its_url_is_set() -> None:
    url = {"KARTA_PROVIDER_AZURE_OPENAI_BASE_URL": "https://acme.openai.azure.com/openai"}
    azure = load(url, development=False)["azure_openai"]
    assert azure.path(b"/v1/responses?a=b") == b"/openai/v1/responses?a=b"
    assert azure.auth is AuthStyle.API_KEY
    assert azure.price_name == "azure"
    assert "azure_openai" not in load({}, development=False)
    with pytest.raises(ProviderError, match="KARTA_PROVIDER_AZURE_OPENAI_BASE_URL: set it, too"):
        load({"KARTA_PROVIDER_AZURE_OPENAI_API_KEY": "k"}, development=False)


def test_a_setting_of_a_provider_nobody_knows_is_told() -> None:
    for name in ("KARTA_PROVIDER_OPENIA_API_KEY", "KARTA_PROVIDER_OPENAI_APIKEY"):
        with pytest.raises(ProviderError, match=f"{name}: no such setting"):
            load({name: "secret"}, development=False)


def test_every_provider_has_a_name_a_credential_can_have_and_a_price_list() -> None:
    priced = {one.id for one in genai_prices.data.providers}
    for name, row in read_table().items():
        assert re.fullmatch("[a-z][a-z0-9_]{0,31}", name)
        assert (row.prices or name) in priced or name.startswith(
            ("vllm", "ollama", "openai_compatible", "anthropic_compatible")
        )


def test_a_path_that_is_not_below_the_root_keeps_its_name() -> None:
    gemini = load({}, development=False)["gemini"]
    assert gemini.own_path(b"/v1beta/other") == b"/v1beta/other"
    azure = make("https://x.example/openai")
    assert azure.own_path(b"/openai/v2/x") == b"/v2/x"


def test_settings_override_the_table() -> None:
    providers = load(
        {
            "KARTA_PROVIDER_OPENAI_BASE_URL": "https://proxy.example:8443/openai/",
            "KARTA_PROVIDER_OPENAI_API_KEY": " sk-platform\n",
            "KARTA_PROVIDER_ANTHROPIC_BASE_URL": "",
        },
        development=False,
    )
    assert providers["openai"].origin == Origin("proxy.example", 8443, True)
    assert providers["openai"].prefix == b"/openai"
    assert providers["openai"].host_header == b"proxy.example:8443"
    assert providers["openai"].platform_key == b"sk-platform"
    assert providers["anthropic"].origin.host == "api.anthropic.com"


@pytest.mark.parametrize(
    ("base_url", "origin", "host_header", "prefix"),
    [
        ("https://x.example", Origin("x.example", 443, True), b"x.example", b""),
        ("https://x.example/", Origin("x.example", 443, True), b"x.example", b""),
        ("https://X.Example:443/a/b//", Origin("x.example", 443, True), b"x.example", b"/a/b"),
        ("https://x.example/v1beta", Origin("x.example", 443, True), b"x.example", b"/v1beta"),
        ("https://x.example/%C3%A9", Origin("x.example", 443, True), b"x.example", b"/%C3%A9"),
        ("http://127.0.0.1:80", Origin("127.0.0.1", 80, False), b"127.0.0.1", b""),
        ("http://127.1.2.3:9", Origin("127.1.2.3", 9, False), b"127.1.2.3:9", b""),
        ("http://localhost:9000", Origin("localhost", 9000, False), b"localhost:9000", b""),
        ("http://[::1]:9000", Origin("::1", 9000, False), b"[::1]:9000", b""),
        ("https://[2001:db8::1]", Origin("2001:db8::1", 443, True), b"[2001:db8::1]", b""),
    ],
)
def test_base_urls(base_url: str, origin: Origin, host_header: bytes, prefix: bytes) -> None:
    found = make(base_url)
    assert (found.origin, found.host_header, found.prefix) == (origin, host_header, prefix)


@pytest.mark.parametrize(
    ("base_url", "mend"),
    [
        ("", "give an http(s) URL"),
        ("api.openai.com", "give an http(s) URL"),
        ("ftp://x.example", "give an http(s) URL"),
        ("https://", "give an http(s) URL"),
        ("https://x.example/v1", "leave out /v1"),
        ("https://x.example/openai/v1/", "leave out /v1"),
        ("https://x.example?a=b", "no user, query or fragment"),
        ("https://x.example/#a", "no user, query or fragment"),
        ("https://user@x.example", "no user, query or fragment"),
        ("https://:secret@x.example", "no user, query or fragment"),
        ("http://x.example", "use https"),
        ("http://10.0.0.1", "use https"),
        ("http://127.0.0.1.evil.example", "use https"),
        ("https://x.example:port", "not a URL"),
        ("https://x.example:99999", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://x.example/a b", "plain ASCII"),
        ("https://x.example/é", "plain ASCII"),
        ("https://é.example", "plain ASCII"),
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused_with_the_mend(base_url: str, mend: str) -> None:
    message = problem(base_url)
    assert mend in message
    assert "secret" not in message


def test_plain_http_is_for_development_and_loopback() -> None:
    assert not make("http://sim:9000", development=True).origin.tls


@pytest.mark.parametrize("api_key", ["a b", "a\nb", "schlüssel", "\x7f", "a\0"])
def test_a_key_that_cannot_stand_in_a_header(api_key: str) -> None:
    message = problem(api_key=api_key)
    assert "cannot stand in a header" in message
    assert api_key not in message


def test_every_problem_is_told_at_once_by_its_variable(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ProviderError) as caught:
        load(
            {
                "KARTA_PROVIDER_ANTHROPIC_BASE_URL": "http://x.example",
                "KARTA_PROVIDER_OPENAI_API_KEY": "se cret",
            },
            development=False,
        )
    first, second = str(caught.value).splitlines()
    assert first.startswith("KARTA_PROVIDER_ANTHROPIC_BASE_URL: plain http")
    assert second.startswith("KARTA_PROVIDER_OPENAI_API_KEY: it has characters")
    assert "se cret" not in second
    for file in ("empty.pem", "missing.pem"):
        with pytest.raises(ProviderError, match=r"KARTA_PROVIDER_OPENAI_CA_FILE: the file of certificates"):
            load({"KARTA_PROVIDER_OPENAI_CA_FILE": str(tmp_path / file)}, development=False)


def test_no_repr_shows_the_platform_s_key() -> None:
    assert "sk-secret" not in repr(make("https://x.example", api_key="sk-secret"))


def test_tls_is_always_verified(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    private = make("https://x.example", ca_file=str(authority)).origin.context()
    for context in (make("https://x.example").origin.context(), private):
        assert context is not None
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert private is not None
    assert private.cert_store_stats()["x509_ca"] == 1, "a private authority is trusted alone"
    assert make("http://localhost").origin.context() is None


def test_origins_differ_by_what_they_trust() -> None:
    assert len({Origin("h", 443, True), Origin("h", 443, True, "ca.pem"), Origin("h", 443, False)}) == 3


@pytest.mark.parametrize(("value", "asked"), [(None, True), ("", True), ("false", False), ("1", True)])
def test_whether_a_stream_may_be_asked_for_its_usage(value: str | None, asked: bool) -> None:
    environment = {} if value is None else {"KARTA_PROVIDER_OPENAI_STREAM_USAGE": value}
    providers = load(environment, development=False)
    assert providers["openai"].stream_usage is asked
    assert not providers["anthropic"].stream_usage
    assert not make("https://x.example").stream_usage
    with pytest.raises(ProviderError, match="OPENAI_STREAM_USAGE: say true or false"):
        load({"KARTA_PROVIDER_OPENAI_STREAM_USAGE": "maybe"}, development=False)


def test_the_price_library_s_name_is_the_provider_s_unless_told() -> None:
    assert load({}, development=False)["openai"].price_name == "openai"
    assert make("https://x.example").price_name == "x"
