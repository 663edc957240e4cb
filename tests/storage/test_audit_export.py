"""An export holds what is kept, and proves itself."""

from __future__ import annotations

import csv
import io
import json

import pytest

from storage.audit import Event, record, select_audit_rows
from storage.audit_export import HEADER, Format, encode_header, encode_rows, verify_lines
from storage.bridge import Database
from storage.errors import InvalidValue
from storage.model import Actor, ActorKind
from tests.storage.test_audit import ORG, append

HOSTILE = Actor(
    kind=ActorKind.USER, actor_id='=cmd|"/c calc"!A1', user_agent="@SUM(1)", address="+1", request_id="-1"
)


@pytest.fixture
async def lines(admin_db: Database) -> list[bytes]:
    await append(admin_db, count=2)
    async with admin_db.transaction() as tx:
        details = {"text": 'ü "quoted", = and\\u0000', "number": 1.5, "none": None, "list": [1, {}]}
        await record(tx, HOSTILE, Event.KEY_REVOKED, ORG, "=1+1", details)
    return encode_rows(Format.JSONL, await select_audit_rows(admin_db, ORG)).splitlines(keepends=True)


async def test_a_file_proves_itself(lines: list[bytes]) -> None:
    report = verify_lines(lines)
    assert (report.org_id, report.rows, report.first_seq, report.last_seq) == (ORG, 3, 1, 3)
    assert report.problem is None
    last = json.loads(lines[-1])
    assert last["hash"] == (report.last_hash or b"").hex()
    assert last["details"]["number"] == 1.5
    assert verify_lines(lines[1:]).problem is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: [lines[0], lines[2]], "row 2 is missing"),
        (lambda lines: [lines[0], lines[1].replace(b"key1", b"key7"), lines[2]], "row 2 is not as it was"),
        (lambda lines: [lines[1], lines[0]], "row 3 is missing"),
        (
            lambda lines: [lines[0].replace(b'"prev_hash":"', b'"prev_hash":"00')],
            "row 1 is not the beginning",
        ),
        (
            lambda lines: [*lines[:2], lines[2].replace(b'"prev_hash":"', b'"prev_hash":"00')],
            "does not follow",
        ),
    ],
)
async def test_what_was_changed_in_a_file_shows(lines: list[bytes], change: object, problem: str) -> None:
    assert problem in str(verify_lines(change(lines)).problem)  # type: ignore[operator]


async def test_what_is_no_export(lines: list[bytes]) -> None:
    for line in (b"", b"{}", b"[1]", b'{"seq": 1', lines[0].replace(b'"hash":"', b'"hash":"zz')):
        with pytest.raises(InvalidValue, match="line 2"):
            verify_lines([lines[0], line])
    assert verify_lines([]).rows == 0


async def test_no_cell_is_a_formula(lines: list[bytes], admin_db: Database) -> None:
    text = (
        encode_header(Format.CSV) + encode_rows(Format.CSV, await select_audit_rows(admin_db, ORG))
    ).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == HEADER
    last = rows[-1]
    assert [last[name] for name in ("actor_id", "subject", "address", "user_agent", "request_id")] == [
        *(f"'{HOSTILE.actor_id}", "'=1+1", "'+1", "'@SUM(1)", "'-1")
    ]
    assert not [cell for row in rows for cell in row.values() if cell[:1] in "=+-@\t\r" and cell]
    assert json.loads(last["details"])["number"] == 1.5
