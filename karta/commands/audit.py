"""`karta audit verify | export | checkpoint | keys | retention`."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from karta import database_choice
from karta.commands.usage import days
from karta.terminal import EXIT_FAILED, CommandError, UsageError, print_error, print_json

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.audit_chain import ChainReport
    from storage.audit_checkpoints import Checkpoint, SigningKey
    from storage.bridge import Database
    from storage.sealing import MasterKeys

PROBLEMS_MAX = 1000
"""Told of at most; each is a chain."""
KEPT_BYTES_MAX = 64 << 20
"""Of a file of checkpoints: some hundred thousand."""


def register(commands: Commands) -> None:
    group = commands.add_parser("audit", help="the audit log: prove, export, sign, let go")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = actions.add_parser(
        "verify",
        help="prove that the log is as it was written",
        description="Recompute every chain, and check its signed checkpoints. Exit code 1, and the first "
        "bad row of each chain, when something is wrong. With --file, prove an export in JSONL without a "
        "database.",
    )
    verify.add_argument(
        "--org", type=_chain, metavar="ORG", help="this chain alone: an organization's id, or `system`"
    )
    verify.add_argument("--against", type=Path, metavar="FILE", help="check kept checkpoints as well")
    verify.add_argument("--file", type=Path, metavar="FILE", help="an export in JSONL, without filters")
    verify.set_defaults(run=run_verify)
    export = actions.add_parser(
        "export", help="write the log to stdout", description="Write an organization's audit log to stdout."
    )
    export.add_argument("--org", type=_chain, required=True, metavar="ORG", help="its id, or `system`")
    export.add_argument("--format", choices=("csv", "jsonl"), default="jsonl", help="default jsonl")
    export.add_argument(
        "--json", action="store_true", help="print one JSON document, of the same rows as jsonl"
    )
    export.set_defaults(run=run_export)
    checkpoint = actions.add_parser(
        "checkpoint",
        help="sign where each chain ends",
        description="Sign the head of each chain that has grown, and print every chain's newest checkpoint, "
        "a line of JSON each. Keep them where nobody with the database can change them, for `karta audit "
        "verify --against FILE`. The admin pages sign every ten minutes by themselves.",
    )
    checkpoint.set_defaults(run=run_checkpoint)
    keys = actions.add_parser("keys", help="show the public keys that checkpoints are signed with")
    keys.set_defaults(run=run_keys)
    retention = actions.add_parser(
        "retention",
        help="drop old months",
        description="Drop the months of the audit log that ended longer ago than this, after verifying each "
        "of their chains and signing where it goes on. Refuses what is younger than a year. Logs in as the "
        "owner of the schema.",
    )
    retention.add_argument("--days", type=days, default=400, metavar="N", help="default 400, at least 365")
    retention.set_defaults(run=run_retention)
    for action in (verify, keys, retention):
        action.add_argument("--json", action="store_true", help="print one JSON document")
    for action in (verify, export, checkpoint, keys, retention):
        database_choice.add_arguments(action)


def _chain(text: str) -> UUID:
    return UUID(int=0) if text == "system" else UUID(text)


def run_verify(given: argparse.Namespace) -> None:
    if given.file is not None:
        _verify_file(given)
        return
    from storage.audit_chain import chains, verify_chain
    from storage.audit_checkpoints import trusted_keys

    kept = _read_kept(given.against) if given.against else []
    master_keys = database_choice.choose(given).load_master_keys()
    sums = {"chains": 0, "rows": 0, "checkpoints": 0}
    problems: list[dict[str, object]] = []

    def add(report: ChainReport) -> None:
        sums["chains"] += 1
        sums["rows"] += report.rows
        sums["checkpoints"] += report.checkpoints
        if not report.intact and len(problems) < PROBLEMS_MAX:
            problems.append({"org_id": report.org_id, "seq": report.problem_seq, "problem": report.problem})

    async def verify(db: Database) -> None:
        keys = await trusted_keys(db, master_keys)
        if given.org is not None:
            add(await verify_chain(db, given.org, keys, kept))
            return
        lost = {one.org_id for one in kept}
        async for org_id in chains(db):
            lost.discard(org_id)
            add(await verify_chain(db, org_id, keys, kept))
        for org_id in sorted(lost):
            add(await verify_chain(db, org_id, keys, kept))

    database_choice.run(given, verify, connections_max=2)
    if given.json:
        print_json({"intact": not problems, **sums, "problems": problems})
    elif not problems:
        chained = "1 chain" if sums["chains"] == 1 else f"{sums['chains']:,} chains"
        print(f"Intact: {sums['rows']:,} rows in {chained}, {sums['checkpoints']:,} signed checkpoints.")
    for one in problems:
        print_error(f"chain {one['org_id']}: {one['problem']}")
    if problems:
        sys.exit(EXIT_FAILED)


def _verify_file(given: argparse.Namespace) -> None:
    from storage.audit_export import LINE_BYTES_MAX, verify_lines

    try:
        with given.file.open("rb") as file:
            report = verify_lines(iter(lambda: file.readline(LINE_BYTES_MAX), b""))
    except OSError as error:
        raise CommandError(f"cannot read {given.file}: {error.strerror}") from None
    if given.json:
        print_json(
            {
                "intact": report.problem is None,
                "org_id": report.org_id,
                "rows": report.rows,
                "first_seq": report.first_seq,
                "last_seq": report.last_seq,
                "last_hash": None if report.last_hash is None else report.last_hash.hex(),
                "problem": report.problem,
            }
        )
    elif report.problem is None:
        print(f"Intact: rows {report.first_seq} to {report.last_seq} of {report.org_id}.")
    if report.problem is not None:
        print_error(f"{given.file}: {report.problem}")
        sys.exit(EXIT_FAILED)


def run_export(given: argparse.Namespace) -> None:
    from storage.audit_export import Format, encode_header, encode_rows
    from storage.audit_search import Wanted, go_through, record_export

    form = Format(given.format)
    if given.json and form is Format.CSV:
        raise UsageError("--json is one document of the rows, and no CSV: leave one of the two out")
    told = "json" if given.json else form.value
    # A document is its lines as they stand, so that each still proves itself.
    begin, between, end = (b'{"rows": [', b", ", b"]}\n") if given.json else (encode_header(form), b"", b"")

    async def write(db: Database) -> None:
        until = await record_export(db, database_choice.actor(), given.org, told, Wanted())
        out = sys.stdout.buffer
        before = begin
        async with aclosing(go_through(db, given.org, Wanted(), until)) as batches:
            async for rows in batches:
                encoded = encode_rows(form, rows)
                out.write(before + (between.join(encoded.splitlines()) if given.json else encoded))
                before = between
        out.write(end)
        out.flush()

    database_choice.run(given, write)


def run_checkpoint(given: argparse.Namespace) -> None:
    from storage.audit_chain import chains, sign_heads
    from storage.audit_checkpoints import select_last_checkpoint

    async def sign(db: Database) -> list[str]:
        _, problems = await sign_heads(db, await _signing_key(given, db))
        async for org_id in chains(db):
            if (last := await select_last_checkpoint(db, org_id)) is not None:
                print_json(_describe(last))
        return [one.text for one in problems]

    problems = database_choice.run(given, sign)
    for text in problems:
        print_error(f"not signed: {text}")
    if problems:
        sys.exit(EXIT_FAILED)


def run_keys(given: argparse.Namespace) -> None:
    from storage.audit_checkpoints import select_public_keys

    async def select(db: Database) -> list[dict[str, object]]:
        return [
            {
                "key_id": key.key_id,
                "public_key": base64.b64encode(key.public).decode(),
                "created_at": key.created_at,
            }
            for key in await select_public_keys(db)
        ]

    keys = database_choice.run(given, select)
    if given.json:
        print_json({"keys": keys})
    elif not keys:
        print("None yet: the first checkpoint makes one.")
    else:
        for key in keys:
            print(f"{key['key_id']}  Ed25519  {key['public_key']}")


def run_retention(given: argparse.Namespace) -> None:
    from storage.audit_retention import SECONDS_MAX, drop_audit

    master_keys = _master_keys(given)

    async def drop(db: Database) -> list[str]:
        key = await _signing_key(given, db)
        return await drop_audit(db, database_choice.actor(), master_keys, key, given.days)

    dropped = database_choice.run_as_owner(given, drop, query_seconds_max=SECONDS_MAX)
    if given.json:
        print_json({"dropped": dropped})
    else:
        print(f"Dropped {', '.join(dropped)}." if dropped else "Nothing is that old.")


def _master_keys(given: argparse.Namespace) -> MasterKeys:
    found = database_choice.choose(given).load_master_keys()
    if found is None:
        raise CommandError("signing needs the master keys: set KARTA_MASTER_KEYS or KARTA_MASTER_KEYS_FILE")
    return found


async def _signing_key(given: argparse.Namespace, db: Database) -> SigningKey:
    from storage.audit_checkpoints import ensure_signing_key

    return await ensure_signing_key(db, database_choice.actor(), _master_keys(given))


def _describe(one: Checkpoint) -> dict[str, object]:
    return {
        "org_id": one.org_id,
        "seq": one.seq,
        "hash": one.hash.hex(),
        "signed_at": one.signed_at,
        "key_id": one.key_id,
        "signature": base64.b64encode(one.signature).decode(),
    }


def _read_kept(path: Path) -> list[Checkpoint]:
    from datetime import datetime

    from storage.audit_checkpoints import Checkpoint, Kind

    try:
        if path.stat().st_size > KEPT_BYTES_MAX:
            raise CommandError(f"{path} is larger than any file of checkpoints")
        content = path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    try:
        return [
            Checkpoint(
                org_id=UUID(one["org_id"]),
                seq=int(one["seq"]),
                kind=Kind.HEAD,
                hash=bytes.fromhex(one["hash"]),
                signed_at=datetime.fromisoformat(one["signed_at"]),
                key_id=str(one["key_id"]),
                signature=base64.b64decode(one["signature"], validate=True),
            )
            for one in map(json.loads, content.decode().splitlines())
        ]
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"{path} does not hold what `karta audit checkpoint` printed") from None
