"""How commands speak: one document, one line of error, secrets only from stdin or a file."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from karta.terminal import (
    SECRET_BYTES_MAX,
    CommandError,
    JSONList,
    Parser,
    UsageError,
    print_error,
    print_json,
    print_table,
    read_secret,
)


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    print_json({"at": moment, "id": UUID(int=1), "path": Path("/x"), "name": "Ünïcode\n"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "at": "2026-11-23T00:00:00+00:00",
        "id": str(UUID(int=1)),
        "path": "/x",
        "name": "Ünïcode\n",
    }


def test_what_has_no_json_form_is_a_bug() -> None:
    with pytest.raises(TypeError, match="convert it"):
        print_json({"secret": b"bytes"})


def test_a_list_is_one_document_that_is_there_as_far_as_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = JSONList("keys")
    nothing.end()
    assert capsys.readouterr().out == ""
    document = JSONList("keys")
    document.add([{"id": UUID(int=1)}, {"name": "Ü"}])
    written = capsys.readouterr().out
    assert json.loads(written + "]}") == {"keys": [{"id": str(UUID(int=1))}, {"name": "Ü"}]}
    document.add([{"name": "last\n"}])
    document.end()
    written += capsys.readouterr().out
    assert written.count("\n") == 1
    assert [one.get("name") for one in json.loads(written)["keys"]] == [None, "Ü", "last\n"]


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("first\n  second")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "karta: first second\n")


def test_a_table_lines_up_and_lets_no_control_character_through(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "X"), [("a\x1b[31mred", "1"), ("b", "2")])
    assert capsys.readouterr().out == "NAME       X\na\ufffd[31mred  1\nb          2\n"


def test_a_wrong_call_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="see `x --help`"):
        Parser(prog="x").parse_args(["--unknown"])


@pytest.mark.parametrize("path", [None, "-"])
def test_a_secret_comes_from_stdin(path: str | None) -> None:
    assert read_secret(path, "the key", io.BytesIO(b"  sk-secret\n")) == bytearray(b"sk-secret")


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"sk-secret\n")
    assert read_secret(str(tmp_path / "key"), "the key") == bytearray(b"sk-secret")


@pytest.mark.parametrize(
    ("content", "problem"), [(b" \n", "is empty"), (b"x" * (SECRET_BYTES_MAX + 1), "is longer than")]
)
def test_what_is_no_secret_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        read_secret(None, "the key", io.BytesIO(content))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot read the key"):
        read_secret(str(tmp_path / "missing"), "the key")
