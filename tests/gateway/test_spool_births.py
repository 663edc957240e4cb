"""A worker that is killed while it opens its journal, at any line of it: the next one opens the journal all
the same, and what the life before wrote and left in flight is there, each request once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from gateway import in_flight
from gateway.spool import SETTLED_FILE
from gateway.usage_writer import UsageWriter
from storage.model import CredentialKind, Outcome
from tests.gateway.journals import everything, opened, record, row

pytestmark = pytest.mark.one_python

# Opens the journal in copies of a directory, each in a process that dies before another of its lines.
MIDWIFE = """
import os, shutil, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gateway import in_flight, spool

home = Path(sys.argv[1])
in_flight.SLOTS = int(sys.argv[3])
files = {spool.__file__, in_flight.__file__}

def open_until(directory, last):
    seen = set()
    def trace(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    spool.Spool(directory)
    os._exit(0)

ended = False
number = 0
while not ended:
    number += 1
    directory = home / f"{number:03}"
    if (home / "earlier").exists():
        shutil.copytree(home / "earlier", directory)
    pid = os.fork()
    if not pid:
        open_until(directory, number)
    ended = os.WIFEXITED(os.waitpid(pid, 0)[1])
print(number)
"""
IN_FLIGHT = UUID(int=7)
SLOTS = 64
"""Not megabytes of them, for the sake of the disk."""


@pytest.fixture(autouse=True)
def _few_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "SLOTS", SLOTS)


def killed_at_birth(home: Path) -> list[Path]:
    """Journals whose opener was killed: before its first line, before its second … and one that was not."""
    root = Path(__file__).parents[2]
    run = [sys.executable, "-c", MIDWIFE, str(home), str(root), str(SLOTS)]
    number = int(subprocess.run(run, cwd=root, check=True, capture_output=True).stdout)
    # Of the journal and of the register: fewer would be a journal that nobody opened.
    assert number > 40
    return [home / f"{one + 1:03}" for one in range(number)]


def test_a_worker_killed_at_its_birth_leaves_a_journal_that_opens(tmp_path: Path) -> None:
    for directory in killed_at_birth(tmp_path):
        if not (directory / "lock").exists():
            # Nobody looks for such a one: it must hold nothing.
            assert not directory.exists() or list(directory.iterdir()) == []
            continue
        with opened(directory) as spool:
            assert everything(directory) == []
            assert spool.interrupted == 0
            spool.settle()
        assert (directory / SETTLED_FILE).exists()


def test_a_successor_killed_at_its_birth_loses_nothing_of_the_life_before(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    with opened(earlier) as spool:
        owner = spool.owner
        spool.append(row(record(1)))
        spool.in_flight.begin(entry())
    for directory in killed_at_birth(tmp_path):
        with opened(directory) as spool:
            assert spool.owner == owner
            found = {one.request_id: one for one in everything(directory)}
            assert list(found) == [record(1).request_id, IN_FLIGHT.hex]
            assert found[IN_FLIGHT.hex].outcome is Outcome.INTERRUPTED
            spool.settle()
        assert (directory / SETTLED_FILE).exists()


def entry() -> bytes:
    request: Any = SimpleNamespace(
        operation=SimpleNamespace(path="/v1/messages", metered=True), json=True, model="m", streaming=False
    )
    grant: Any = SimpleNamespace(
        caller=SimpleNamespace(key=SimpleNamespace(org_id=UUID(int=1), key_id="0123456789ab")),
        request=request,
        kind=CredentialKind.BYOK,
        provider=SimpleNamespace(name="anthropic"),
        sealed=None,
    )
    writer = UsageWriter()
    return writer.entry(writer.begin(grant), request, IN_FLIGHT.hex, 1, 400, 1_000_000)
