"""The karta arm, played by a small stand-in for the `karta` command: the real one is compared by
`bench-smoke`.

The stand-in announces what `karta up --json` announces, runs a "gateway" child and records what it is
told, so that this file tests what the arm does with it: key by stdin, gateway found, pinned, watched and
ended.  Its children end with their stdin, which is the harness's.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.process_watch import command_line
from bench.targets.base import TargetContext, TargetUnavailable
from bench.targets.karta import KartaTarget, find_program, gateway_pids

STAND_IN = """#!{python}
import json, os, signal, subprocess, sys
record = open({record!r}, "a")
if sys.argv[1] == "byok":
    secret = sys.stdin.read()
    print(json.dumps({{"argv": sys.argv[1:], "secret": secret}}), file=record, flush=True)
    sys.exit({byok_exit})
if sys.argv[1] != "up":
    told = {{"argv": sys.argv[1:], "database_url": os.environ.get("KARTA_DATABASE_URL")}}
    print(json.dumps(told | {{"config": os.environ.get("KARTA_CONFIG")}}), file=record, flush=True)
    sys.exit()
from storage.settings import read_variables
read = {{name: variable.value for name, variable in read_variables().items()}}
print(json.dumps({{"read": read}}), file=record, flush=True)
base_url = os.environ["KARTA_PROVIDER_ANTHROPIC_BASE_URL"]
assert base_url == os.environ["KARTA_PROVIDER_OPENAI_BASE_URL"]
gateway = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "gateway", "--json"])
other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "admin"])
print(json.dumps({{"argv": sys.argv[1:], "cpus": sorted(os.sched_getaffinity(0))}}), file=record, flush=True)
# Held back until it is waited for: `signal.pause` misses one that comes just before it.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print(json.dumps({announcement!r}), flush=True)
signal.sigwait([signal.SIGTERM])
gateway.wait(), other.wait()
"""
ANNOUNCEMENT = {"gateway_url": "http://127.0.0.1:1", "api_key": "kt_live_x", "org_id": "org-1"}


def stand_in(tmp_path: Path, announcement: Mapping[str, str | None], byok_exit: str = "0") -> Path:
    program = tmp_path / "karta"
    program.write_text(
        STAND_IN.format(
            python=sys.executable,
            record=str(tmp_path / "record"),
            announcement=announcement,
            byok_exit=byok_exit,
        )
    )
    program.chmod(0o700)
    return program


async def test_the_gateway_is_governed_pinned_and_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.targets.karta.find_program", lambda: str(stand_in(tmp_path, ANNOUNCEMENT)))
    cores = sorted(os.sched_getaffinity(0))
    context = TargetContext(
        upstream_url="http://127.0.0.1:2", directory=tmp_path, target_cpus=cores[:1], harness_cpus=cores[-1:]
    )
    async with KartaTarget().open(context) as running:
        assert running.base_url == "http://127.0.0.1:1"
        assert running.keys == ["kt_live_x"]
        [gateway] = running.pids
        assert "gateway" in command_line(gateway)
        assert os.sched_getaffinity(gateway) == {cores[0]}
    assert command_line(gateway) == []
    _, up, *commands = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    assert up["argv"][:2] == ["up", "--json"]
    assert up["cpus"] == cores[-1:]
    byok, limits = commands[:2], commands[2:]
    assert [told["argv"][:2] for told in limits] == [["budget", "set"], ["limits", "set"]]
    assert [told["argv"][:6] for told in byok] == [
        ["byok", "set", "--org", "org-1", "--provider", provider] for provider in ("anthropic", "openai")
    ]
    for told in byok:
        assert told["secret"]
        assert told["secret"] not in told["argv"]


async def test_an_operators_own_settings_reach_it_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.targets.karta.find_program", lambda: str(stand_in(tmp_path, ANNOUNCEMENT)))
    monkeypatch.setenv("KARTA_DATABASE_URL", "postgresql://karta@production/karta")
    monkeypatch.setenv("KARTA_PROVIDER_OPENAI_API_KEY", "sk-real")
    (tmp_path / "karta.toml").write_text('stripe_api_key = "sk_live_real"\n')
    monkeypatch.chdir(tmp_path)
    context = TargetContext(upstream_url="http://127.0.0.1:2", directory=tmp_path)
    async with KartaTarget().open(context):
        pass
    up, _, *commands = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    assert up["read"] == {
        "KARTA_CONFIG": os.devnull,
        "KARTA_PROVIDER_ANTHROPIC_BASE_URL": "http://127.0.0.1:2",
        "KARTA_PROVIDER_OPENAI_BASE_URL": "http://127.0.0.1:2",
    }
    told = [(command["database_url"], command["config"]) for command in commands if "config" in command]
    assert set(told) == {(None, os.devnull)}


@pytest.mark.parametrize(
    ("announcement", "byok_exit", "says"),
    [
        (ANNOUNCEMENT | {"api_key": None}, "0", "announced no api_key"),
        (ANNOUNCEMENT, "'plan refused'", "karta byok set failed: plan refused"),
    ],
)
async def test_what_goes_wrong_is_told(
    announcement: Mapping[str, str | None],
    byok_exit: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = stand_in(tmp_path, announcement, byok_exit)
    monkeypatch.setattr("bench.targets.karta.find_program", lambda: str(program))
    with pytest.raises(TargetUnavailable, match=says):
        async with KartaTarget().open(TargetContext(upstream_url="http://127.0.0.1:2", directory=tmp_path)):
            raise AssertionError("it started")


async def test_without_the_command_it_takes_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.targets.karta.find_program", lambda: None)
    with pytest.raises(TargetUnavailable, match="pip install karta"):
        async with KartaTarget().open(TargetContext(upstream_url="http://127.0.0.1:2", directory=tmp_path)):
            raise AssertionError("it started")


def test_the_command_of_this_environment_comes_first() -> None:
    program = find_program()
    assert program is None or Path(program).name == "karta"


def test_no_gateway_below_us() -> None:
    # Not below this process, which may have one for other tests.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert gateway_pids(child.pid) == []
        child.communicate(b"\n")
