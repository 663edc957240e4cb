"""The command line, and where keys come from."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.sim.command import keys_from_environment
from tests.bench.sim.process import running_sim


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KARTA_SIM_KEYS", raising=False)
    monkeypatch.delenv("KARTA_SIM_KEYS_FILE", raising=False)
    assert keys_from_environment() is None
    file = tmp_path / "keys"
    file.write_text("sk-a\n\n sk-b \n")
    monkeypatch.setenv("KARTA_SIM_KEYS_FILE", str(file))
    assert keys_from_environment() == ["sk-a", "sk-b"]
    monkeypatch.setenv("KARTA_SIM_KEYS", "sk-c, sk-d,")
    assert keys_from_environment() == ["sk-c", "sk-d"]


def test_without_json_a_person_is_told() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.sim", "--no-ledger"], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("simulated provider on http://127.0.0.1:")
        child.terminate()
        assert child.wait(15) == 0


async def test_without_a_ledger_it_answers_all_the_same() -> None:
    with running_sim("--no-ledger") as sim:
        received = await sim.talk(b"GET /v1/models HTTP/1.1\r\nauthorization: k\r\nconnection: close\r\n\r\n")
        assert b"x-request-id: " in received
        assert (await sim.look("/_sim/ledger"))["entries"] == []
