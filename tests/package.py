"""`tox -e package`: the wheel alone, installed as the README says, serves a request outside the checkout.

Catches what tests on a checkout cannot: a file missing from the wheel, a dependency that only the tests
bring, a path that leads back here. Standard library only, since its own environment has nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
READY_SECONDS_MAX = 120
REQUEST_SECONDS_MAX = 30


def main() -> None:
    """Raises at the first thing that is wrong."""
    with tempfile.TemporaryDirectory(prefix="karta-package-") as directory:
        scratch = Path(directory)
        # PostgreSQL runs as another user when this is root, and must be able to reach its programs or
        # copy them.
        program = install(scratch)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KARTA_")}
        environment.pop("PYTHONPATH", None)
        origin = run(
            program.with_name("python"), "-c", "import gateway; print(gateway.__file__)", cwd=scratch
        )
        assert origin.startswith(str(scratch)), f"imported from {origin}"
        started = time.monotonic()
        up = subprocess.Popen(
            [
                *(program, "up", "--json", "--data-dir", scratch / "data"),
                *("--gateway-port", "0", "--admin-port", "0"),
            ],
            cwd=scratch,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert up.stdout is not None
            told = json.loads(up.stdout.readline())
            print(f"karta up was ready after {time.monotonic() - started:.1f} s")
            request_stream(told["gateway_url"], told["api_key"])
            page = fetch(urllib.request.Request(f"{told['admin_url']}/sign-in"))
            assert b"<h1>Sign in</h1>" in page, page
            fetch(urllib.request.Request(f"{told['admin_url']}/static/karta.css"))
        finally:
            up.send_signal(signal.SIGTERM)
            code = up.wait(READY_SECONDS_MAX)
        assert code == 0, f"karta up ended with {code}"


def install(scratch: Path) -> Path:
    """The `karta` program of a fresh environment with nothing but the locked runtime and the wheel."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", scratch / "wheels", CHECKOUT, cwd=scratch)
    (wheel,) = (scratch / "wheels").iterdir()
    environment = scratch / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    pip = (str(python), "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "-r", CHECKOUT / "requirements.txt", cwd=scratch)
    run(*pip, "install", "--no-deps", wheel, cwd=scratch)
    run(*pip, "check", cwd=scratch)
    return environment / "bin" / "karta"


def request_stream(gateway_url: str, api_key: str) -> None:
    """One streamed request, as the Anthropic SDK makes it."""
    body = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 64,
        "stream": True,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    headers = {
        "x-api-key": api_key,
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
    }
    request = urllib.request.Request(f"{gateway_url}/v1/messages", json.dumps(body).encode(), headers)
    answer = fetch(request)
    assert b"event: message_start" in answer, answer
    assert b"event: message_stop" in answer, answer


def fetch(request: urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS_MAX) as response:
        body: bytes = response.read()
        return body


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
