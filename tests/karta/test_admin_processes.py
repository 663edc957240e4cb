"""Two processes on one port: one dies and is followed by another, and both stop together."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import trio

from bench.process_watch import descendants
from tests.karta.commands.test_servers import environment_of, started

PATIENCE_SECONDS = 60
POLL_SECONDS = 0.1


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not true():
            await trio.sleep(POLL_SECONDS)


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def ask(url: str) -> int:
    with urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE_SECONDS) as answer:
        return int(answer.status)


async def test_one_that_dies_is_followed_and_all_stop_together(database_url: str, tmp_path: Path) -> None:
    given = environment_of("admin", database_url, tmp_path)
    with started("admin", "--processes", "2", environment=given) as (process, told):
        url = told["admin_url"]
        dies, stays = descendants(process.pid)
        os.kill(dies, signal.SIGKILL)
        assert ask(url) == 200  # by the other one
        await until(lambda: len(set(descendants(process.pid)) - {dies}) == 2)
        after = descendants(process.pid)
        assert stays in after
        assert ask(url) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not any(map(lives, after))


async def test_they_end_when_their_supervisor_has_gone(database_url: str, tmp_path: Path) -> None:
    given = {**environment_of("admin", database_url, tmp_path), "KARTA_ADMIN_PROCESSES": "2"}
    with started("admin", environment=given) as (process, told):
        assert ask(told["admin_url"]) == 200
        orphans = descendants(process.pid)
        assert len(orphans) == 2
        process.kill()
        await until(lambda: not any(map(lives, orphans)))
