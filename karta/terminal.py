"""How commands speak: results on stdout, one line of error on stderr, secrets only from stdin or a file.

With `--json` a command prints exactly one JSON document. Without, it prints for people. Nothing else of Karta
writes to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn
from uuid import UUID

EXIT_FAILED = 1
EXIT_USAGE = 2
SECRET_BYTES_MAX = 8 * 1024
"""Provider keys are some hundred bytes; Google's service accounts, the largest kind, are under 4 KiB."""


class CommandError(Exception):
    """A command cannot do what was asked. The message is one line and names the mend."""

    exit_code = EXIT_FAILED


class UsageError(CommandError):
    """The command was called wrongly."""

    exit_code = EXIT_USAGE


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]
    """What `register` of a command group is given to add its parsers to."""


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong call is one line on stderr, as every other error is."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def print_error(message: str) -> None:
    """One line on stderr, whatever line breaks the message holds."""
    print("karta: " + " ".join(message.split()), file=sys.stderr, flush=True)


def print_json(document: dict[str, object]) -> None:
    """The one JSON document of a command, on one line and flushed, since a reader may wait for it."""
    print(json.dumps(document, default=_encode, ensure_ascii=False), flush=True)


class JSONList:
    """The one JSON document of a command that makes many things, each written as soon as it is made: an
    object with one list, on one line. Nothing is written before there is something; `end` it whatever
    happens."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = False

    def add(self, items: Iterable[object]) -> None:
        for item in items:
            text = json.dumps(item, default=_encode, ensure_ascii=False)
            print(", " if self._begun else f'{{"{self._name}": [', text, sep="", end="")
            self._begun = True
        sys.stdout.flush()

    def end(self) -> None:
        if self._begun:
            print("]}", flush=True)


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form; convert it where the document is made")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns aligned for people; nothing of it is meant to be parsed."""
    table = [list(headings), *[[_printable(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _printable(text: str) -> str:
    """Names are chosen by customers: no control character of theirs may reach the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def read_secret(path: str | None, what: str, stream: IO[bytes] | None = None) -> bytearray:
    """A secret from the file at `path`, or from stdin when that is None or `-`; surrounding blanks are
    dropped.

    Returns a bytearray, so that the caller can wipe it. Raises `CommandError` when it is empty or too long.
    """
    try:
        if path is None or path == "-":
            stream = stream or sys.stdin.buffer
            if stream.isatty():
                print(f"Paste {what}, then press Ctrl-D:", file=sys.stderr, flush=True)
            content = stream.read(SECRET_BYTES_MAX + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise CommandError(f"cannot read {what} from {path}: {error.strerror}") from None
    if len(content) > SECRET_BYTES_MAX:
        raise CommandError(f"{what} is longer than {SECRET_BYTES_MAX} bytes: give the secret only")
    secret = bytearray(content.strip())
    if not secret:
        raise CommandError(f"{what} is empty: write it to stdin, or name a file with --secret-file")
    return secret
