"""The friendly block: what it says works as it stands."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from karta.welcome import Ready, format_welcome
from tests.karta.processes import Up

ROOT = Path(__file__).parent.parent.parent
READY = Ready(
    gateway_url="http://127.0.0.1:8080",
    admin_url="http://localhost:8000",
    database_url="postgresql://karta:hunter2@127.0.0.1:5432/karta",
    data_dir=Path("/data"),
    org_id="0",
    owner_email="owner@example.com",
    owner_password="password-x",
    api_key="kt_live_x",
    test_api_key="kt_test_x",
    simulated=True,
)
LATER = dataclasses.replace(READY, owner_password=None, api_key=None, test_api_key=None, simulated=False)


def curl_of(text: str) -> list[str]:
    found = re.search(r"curl -N.*?'\{.*?\}'", text, re.DOTALL)
    assert found is not None
    return shlex.split(found[0].replace("\\\n", " "))


def snippet_of(text: str, name: str) -> str:
    """As it stands, so that an indent no interpreter would take is seen."""
    return re.split(rf"^{name} SDK \(.*pip install {name.lower()}, .*\):\n\n", text, flags=re.MULTILINE)[
        1
    ].split("\n\n")[0]


def test_it_says_where_everything_is() -> None:
    text = format_welcome(READY)
    for told in (
        READY.gateway_url,
        READY.admin_url,
        "/data",
        READY.owner_email,
        "password-x",
        "kt_live_x",
        "kt_test_x",
    ):
        assert told in text
    assert "simulated provider" in text


def test_later_it_has_no_secret_to_tell() -> None:
    text = format_welcome(LATER)
    assert "kt_live_…" in text
    assert "shown at the first start" in text
    assert "simulated" not in text


def test_what_is_shown_once_is_still_seen_on_a_small_terminal() -> None:
    end = "\n".join(format_welcome(READY).splitlines()[-10:])
    assert READY.owner_password in end  # type: ignore[operator]
    assert f"  Live key    {READY.api_key}" in end
    assert f"  Test key    {READY.test_api_key}" in end


def test_who_lost_them_is_told_how_to_get_others() -> None:
    text = format_welcome(LATER)
    assert f"karta keys mint --org {LATER.org_id} --name NAME" in text
    assert f"{LATER.admin_url}/outbox" in text


def test_programs_are_named_so_that_another_terminal_finds_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "karta").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    text = format_welcome(LATER)
    for told in ("karta keys mint", "pip install anthropic", "pip install openai", "python"):
        assert f"{tmp_path}/{told}" in text
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    assert str(tmp_path) not in format_welcome(LATER)


def test_the_database_and_its_password_stay_out_of_it() -> None:
    assert "hunter2" not in format_welcome(READY)
    assert "hunter2" not in repr(READY)


def test_the_snippets_are_python_and_json() -> None:
    text = format_welcome(READY)
    for name in ("Anthropic", "OpenAI"):
        ast.parse(snippet_of(text, name))
    json.loads(curl_of(text)[-1])


def test_the_document_has_the_promised_fields() -> None:
    assert list(READY.document()) == [
        *("gateway_url", "admin_url", "database_url", "data_dir", "org_id", "owner_email"),
        *("owner_password", "api_key", "test_api_key"),
    ]


def test_the_curl_works(up: Up) -> None:
    ready = dataclasses.replace(READY, gateway_url=up.told["gateway_url"], api_key=up.told["api_key"])
    done = subprocess.run(curl_of(format_welcome(ready)), capture_output=True, text=True, check=True)
    assert "event: message_stop" in done.stdout


@pytest.mark.parametrize("name", ["Anthropic", "OpenAI"])
def test_the_snippets_work(up: Up, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    ready = dataclasses.replace(READY, gateway_url=up.told["gateway_url"], api_key=up.told["api_key"])
    snippet = snippet_of(format_welcome(ready), name)
    exec(compile(f"{snippet}\nclient.close()", "snippet", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-request.md"])
def test_the_snippets_of_the_documents_work(up: Up, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / page).read_text()
    snippets = re.findall(r"^ *```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    assert len(snippets) == 2
    for snippet in map(textwrap.dedent, snippets):
        here = snippet.replace("http://127.0.0.1:8080", up.told["gateway_url"])
        code = here.replace("kt_live_…", up.told["api_key"])
        exec(compile(f"{code}\nclient.close()", page, "exec"), {})
        assert capsys.readouterr().out.strip()
