"""What `karta up` tells people when it is ready: where things are, and a first request that works as it
stands."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

ANTHROPIC_MODEL = "claude-sonnet-5-5"
OPENAI_MODEL = "gpt-6-sol"


@dataclass(frozen=True)
class Ready:
    """All that is known once everything runs."""

    gateway_url: str
    admin_url: str
    database_url: str = field(repr=False)
    data_dir: Path
    org_id: str
    owner_email: str
    owner_password: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    test_api_key: str | None = field(repr=False)
    simulated: bool
    """True when live keys reach the simulated provider, since no real one is configured."""

    def document(self) -> dict[str, object]:
        """The one JSON line of `karta up --json`."""
        return {
            "gateway_url": self.gateway_url,
            "admin_url": self.admin_url,
            "database_url": self.database_url,
            "data_dir": self.data_dir,
            "org_id": self.org_id,
            "owner_email": self.owner_email,
            "owner_password": self.owner_password,
            "api_key": self.api_key,
            "test_api_key": self.test_api_key,
        }


def format_welcome(ready: Ready) -> str:
    """The friendly block. Without keys (a later run) the snippets show where to put one. Those of Python are
    not indented, since an interpreter that they are pasted into would refuse them."""
    key = ready.api_key or "kt_live_…"
    parts = [_where(ready), _curl(ready, key), _anthropic(ready, key), _openai(ready, key)]
    if ready.simulated:
        parts.append(
            "Answers come from the simulated provider. For real ones set KARTA_PROVIDER_ANTHROPIC_API_KEY\n"
            "or KARTA_PROVIDER_OPENAI_API_KEY and start again."
        )
    # Last, since a terminal of 24 lines shows no more than the end.
    if ready.owner_password:
        parts.append("Shown this once; keep them:\n\n" + _secrets(ready))
    elif not ready.api_key:
        parts.append(
            "Keys and password were shown at the first start. For another key:\n\n"
            f"  {programs()}karta keys mint --org {ready.org_id} --name NAME\n\n"
            'For another password choose "Forgot your password?" where you sign in; the mail waits at\n'
            f"{ready.admin_url}/outbox, unless you have mail sent."
        )
    parts.append("Ctrl-C stops everything.")
    return "\n\n".join(parts)


def programs() -> str:
    """What stands before `karta`, `pip` and `python` in another terminal: nothing where a shell finds this
    `karta` by its name, else its folder. Without it the system's own pip and Python would answer."""
    folder = Path(sys.executable).parent
    found = shutil.which("karta")
    if (found is not None and Path(found).parent == folder) or not (folder / "karta").exists():
        return ""
    return f"{folder}/"


def _where(ready: Ready) -> str:
    return (
        "Karta is ready.\n\n"
        f"  Gateway     {ready.gateway_url}\n"
        f"  Admin       {ready.admin_url}   sign in as {ready.owner_email}\n"
        f"  Data        {ready.data_dir}"
    )


def _secrets(ready: Ready) -> str:
    rows = [("Password", ready.owner_password), ("Live key", ready.api_key), ("Test key", ready.test_api_key)]
    return "\n".join(f"  {name}    {secret}" for name, secret in rows if secret)


def _curl(ready: Ready, key: str) -> str:
    return (
        "Try it in another terminal:\n\n"
        f"  curl -N {ready.gateway_url}/v1/messages \\\n"
        f"    -H 'x-api-key: {key}' \\\n"
        "    -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \\\n"
        f'    -d \'{{"model": "{ANTHROPIC_MODEL}", "max_tokens": 64, "stream": true, '
        '"messages": [{"role": "user", "content": "Hello"}]}\''
    )


def _anthropic(ready: Ready, key: str) -> str:
    return (
        f"Anthropic SDK ({programs()}pip install anthropic, then {programs()}python):\n\n"
        "from anthropic import Anthropic\n"
        f'client = Anthropic(base_url="{ready.gateway_url}", api_key="{key}")\n'
        f'with client.messages.stream(model="{ANTHROPIC_MODEL}", max_tokens=64,\n'
        '                            messages=[{"role": "user", "content": "Hello"}]) as stream:\n'
        '    for text in stream.text_stream: print(text, end="", flush=True)'
    )


def _openai(ready: Ready, key: str) -> str:
    return (
        f"OpenAI SDK ({programs()}pip install openai, then {programs()}python):\n\n"
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="{ready.gateway_url}/v1", api_key="{key}")\n'
        f'for chunk in client.chat.completions.create(model="{OPENAI_MODEL}", stream=True,\n'
        '        messages=[{"role": "user", "content": "Hello"}]):\n'
        '    print(chunk.choices[0].delta.content or "", end="", flush=True)'
    )
