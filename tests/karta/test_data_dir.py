"""The data directory: whose it is, who uses it, and files that survive a crash whole."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from karta.data_dir import DataDir, Running, default_path, write_private
from karta.terminal import CommandError

RUNNING = Running(
    pid=1,
    gateway_url="http://127.0.0.1:1",
    admin_url="http://localhost:2",
    database_url="postgresql://karta:hunter2@127.0.0.1:3/karta",
    admin_database_url="postgresql://karta_admin:hunter2@127.0.0.1:3/karta",
    master_keys_file=None,
)


def test_the_default_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_path() == Path("/somewhere/karta")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".local" / "share" / "karta"


def test_it_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    data_dir = DataDir.open(tmp_path / "a" / "b")
    assert stat.S_IMODE(data_dir.path.stat().st_mode) == 0o700
    DataDir.open(tmp_path / "a" / "b")


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    assert stat.S_IMODE(DataDir.open(tmp_path / "data").path.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b'{"owner": "', b"\xff"])
def test_a_damaged_file_is_told_by_name(tmp_path: Path, content: bytes) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    (data_dir.path / "passwords.json").write_bytes(content)
    with pytest.raises(CommandError, match=r"passwords\.json is damaged"):
        data_dir.read("passwords")


def test_one_that_others_may_read_is_refused(tmp_path: Path) -> None:
    DataDir.open(tmp_path / "data").path.chmod(0o750)
    with pytest.raises(CommandError, match="chmod 700"):
        DataDir.open(tmp_path / "data")


def test_one_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CommandError, match="not Karta's"):
        DataDir.open(tmp_path)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(CommandError, match="another with --data-dir"):
        DataDir.open(tmp_path / "data")


def test_it_is_locked_by_one(tmp_path: Path) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    with data_dir.locked():
        refused = pytest.raises(CommandError, match=rf"already running .* \(process {os.getpid()}\)")
        with refused, data_dir.locked():
            pass
    with data_dir.locked():
        pass


def test_a_running_one_is_found_only_while_it_runs(tmp_path: Path) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    assert data_dir.find_running() is None
    with data_dir.locked():
        assert data_dir.find_running() is None
        data_dir.announce(RUNNING)
        assert data_dir.find_running() == RUNNING
    assert data_dir.find_running() is None
    assert DataDir(tmp_path / "missing").find_running() is None


def test_one_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to("data")
    with pytest.raises(CommandError, match=r"cannot look into .*/data .*\(Too many levels.*--database-url"):
        DataDir(tmp_path / "data").find_running()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_one_of_another_user_is_told(tmp_path: Path) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        with pytest.raises(CommandError, match=r"\(Permission denied\): be the user that it runs as"):
            data_dir.find_running()
    finally:
        os.seteuid(0)


def test_what_a_crash_left_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    data_dir.announce(RUNNING)
    assert data_dir.find_running() is None


def test_passwords_are_not_in_its_repr() -> None:
    assert "hunter2" not in repr(RUNNING)


def test_children_are_waited_for(tmp_path: Path) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    with data_dir.lock_children() as first:
        held = first()
        assert held is not None
        inherited = os.dup(held)
    with data_dir.lock_children() as second:
        assert second() is None
        os.close(inherited)
        assert second() is not None


def test_notes_are_kept(tmp_path: Path) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    assert data_dir.read("notes") == {}
    data_dir.write("notes", {"x": 1})
    data_dir.write("notes", {"x": 2})
    assert data_dir.read("notes") == {"x": 2}


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"old")
    (tmp_path / ".secret.new").write_bytes(b"left by a crash")
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]
