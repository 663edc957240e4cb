"""`karta up` as a real process: the first run, the next ones, and every way to end."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import anthropic
import openai
import pytest

from karta.terminal import CommandError
from karta.up import bind_from, check_port
from storage.bridge import open_database
from storage.settings import Bind
from tests.karta.conftest import Karta
from tests.karta.processes import Up, children_of, has_orphans, request_stream, wait_until
from tests.support import gateway_process
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer

CHECKOUT = Path(__file__).parent.parent.parent
FIELDS = {
    "gateway_url",
    "admin_url",
    "database_url",
    "data_dir",
    "org_id",
    "owner_email",
    "owner_password",
    "api_key",
    "test_api_key",
}
SECRETS = ("owner_password", "api_key", "test_api_key")


def test_the_first_run_tells_everything_once(up: Up) -> None:
    assert set(up.told) == FIELDS
    assert all(up.told.values())
    assert up.told["api_key"].startswith("kt_live_")
    assert up.told["test_api_key"].startswith("kt_test_")
    assert re.fullmatch(r"http://localhost:\d+", up.told["admin_url"])
    assert up.told["data_dir"] == str(up.data_dir)


def test_files_with_secrets_are_the_owners_alone(up: Up) -> None:
    assert stat.S_IMODE(up.data_dir.stat().st_mode) == 0o700
    for name in ("master.keys", "passwords.json", "running.json", "first_run.json"):
        assert stat.S_IMODE((up.data_dir / name).stat().st_mode) == 0o600
    # Forgotten right after they were printed, so that no crash can lose them.
    notes = up.data_dir / "first_run.json"
    wait_until(lambda: not any(up.told[secret] in notes.read_text() for secret in SECRETS))


def test_both_sdks_stream_through_it(up: Up) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    with (
        anthropic.Anthropic(base_url=up.told["gateway_url"], api_key=up.told["api_key"]) as claude,
        claude.messages.stream(model="claude-sonnet-5-5", max_tokens=16, messages=messages) as stream,  # type: ignore[arg-type]
    ):
        assert "".join(stream.text_stream)
    with openai.OpenAI(base_url=f"{up.told['gateway_url']}/v1", api_key=up.told["test_api_key"]) as gpt:
        chunks = list(gpt.chat.completions.create(model="gpt-6-sol", stream=True, messages=messages))  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.fixture
def admin_connected(up: Up) -> None:
    """The admin server connects to the database when it first has a session to look up."""
    page = urllib.request.Request(up.told["admin_url"], headers={"Cookie": "__Host-karta-session=unknown"})
    urllib.request.urlopen(page, timeout=30).close()


@pytest.mark.usefixtures("admin_connected")
async def test_each_program_logs_in_as_its_own_role(up: Up) -> None:
    async with open_database(up.told["database_url"], role=None) as db:
        owner = await db.fetch_row(
            "SELECT current_user AS name, rolsuper FROM pg_roles WHERE rolname = current_user"
        )
        logins = await db.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database()"
        )
    assert owner is not None
    assert (owner["name"], owner["rolsuper"]) == ("karta", False)
    assert {"karta_gateway", "karta_admin"} <= {row["usename"] for row in logins}


def test_no_process_shows_a_secret_in_its_command(up: Up) -> None:
    secrets = [up.told[name] for name in SECRETS] + [up.told["database_url"].split(":")[2].split("@")[0]]
    for pid in [up.process.pid, *children_of(up.process.pid).values()]:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert not any(secret in command for secret in secrets)


def test_other_commands_find_it(up: Up, karta: Karta) -> None:
    code, out, _ = karta(
        "keys", "mint", "--org", up.told["org_id"], "--name", "found", "--data-dir", up.data_dir
    )
    assert code == 0
    assert b"message_stop" in request_stream(up.told, out.strip())


def test_a_second_one_on_the_same_directory_says_so(up: Up) -> None:
    with Up(up.data_dir) as second:
        assert second.wait() == 1
        (line,) = second.errors.splitlines()
    assert line.startswith(
        f"karta: `karta up` is already running on {up.data_dir} (process {up.process.pid})"
    )


def test_a_program_that_dies_is_started_again_on_its_port(up: Up) -> None:
    before = children_of(up.process.pid)
    os.kill(before["gateway"], signal.SIGKILL)
    wait_until(lambda: children_of(up.process.pid).get("gateway", before["gateway"]) != before["gateway"])
    wait_until(lambda: _serves(up))
    assert "the gateway ended (killed by SIGKILL); starting it again" in up.errors


def test_it_has_as_many_workers_as_were_asked_for(tmp_path: Path) -> None:
    with Up(tmp_path / "data", "--workers", "2") as up:
        told = up.wait_ready()
        supervisor = children_of(up.process.pid)["gateway"]
        assert len(gateway_process.children_of(supervisor)) == 2
        assert b"message_stop" in request_stream(told, told["api_key"])
        os.kill(next(iter(gateway_process.children_of(supervisor))), signal.SIGKILL)
        wait_until(lambda: _serves(up))
        # Not even they outlive it, although nobody stops them in order.
        up.process.kill()
        up.wait()
    wait_until(lambda: not has_orphans(tmp_path / "data"))


def _serves(up: Up) -> bool:
    try:
        return b"message_stop" in request_stream(up.told, up.told["api_key"])
    except OSError:
        return False


def test_it_stops_at_a_signal_and_starts_again_without_secrets(tmp_path: Path) -> None:
    with Up(tmp_path / "data") as first:
        told = first.wait_ready()
        assert first.stop(signal.SIGINT) == 0
        # The database goes last: nobody complains of its absence.
        assert first.errors.splitlines()[-1] == "karta: stopping"
        assert not has_orphans(first.data_dir)
        assert not (first.data_dir / "running.json").exists()
    with Up(tmp_path / "data") as second:
        again = second.wait_ready()
        assert [again[name] for name in SECRETS] == [None, None, None]
        assert again["org_id"] == told["org_id"]
        assert b"message_stop" in request_stream(again, told["api_key"])
        assert second.stop() == 0


def test_under_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    with Up(tmp_path / "data", python=("nohup", sys.executable)) as up:
        told = up.wait_ready()
        up.process.send_signal(signal.SIGHUP)
        assert b"message_stop" in request_stream(told, told["api_key"])
        assert up.stop(signal.SIGTERM) == 0


def test_it_recovers_after_kill_9(tmp_path: Path) -> None:
    ports = (free_port(), free_port())
    with Up(tmp_path / "data", ports=ports) as first:
        told = first.wait_ready()
        first.process.kill()
        first.wait()
    with Up(tmp_path / "data", ports=ports) as second:
        again = second.wait_ready()
        assert again["gateway_url"] == told["gateway_url"]
        assert b"message_stop" in request_stream(again, told["api_key"])
        second.process.kill()
        second.wait()
    wait_until(lambda: not has_orphans(tmp_path / "data"))


def test_it_recovers_when_even_the_keeper_was_killed(tmp_path: Path) -> None:
    with Up(tmp_path / "data") as first:
        told = first.wait_ready()
        keeper = children_of(first.process.pid)["keeper"]
        first.process.kill()
        os.kill(keeper, signal.SIGKILL)
        first.wait()
    assert has_orphans(tmp_path / "data")
    with Up(tmp_path / "data") as second:
        assert b"message_stop" in request_stream(second.wait_ready(), told["api_key"])
        assert second.stop() == 0


def test_a_first_run_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    with Up(tmp_path / "data") as first:
        wait_until(lambda: (tmp_path / "data" / "first_run.json").exists(), 60)
        first.process.kill()
        first.wait()
    with Up(tmp_path / "data") as second:
        assert all(second.wait_ready().values())


def test_a_signal_during_the_start_stops_it_too(tmp_path: Path) -> None:
    with Up(tmp_path / "data") as up:
        wait_until(lambda: "migrating" in up.errors, 60)
        assert up.stop(signal.SIGINT) == 0
    assert not has_orphans(tmp_path / "data")


@pytest.mark.parametrize(("flag", "place"), [("--gateway-port", 0), ("--admin-port", 1)])
def test_a_taken_port_is_one_clear_line(tmp_path: Path, flag: str, place: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Up(tmp_path / "data", ports=(port, 0) if place == 0 else (0, port)) as up:
            assert up.wait() == 1
    (line,) = up.errors.splitlines()
    assert line.startswith(f"karta: cannot listen on 127.0.0.1:{port} (Address already in use)")
    assert f"another port with {flag} " in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KARTA_DRAIN_SECONDS", "30s"),
        ("KARTA_DRAIN_NOTICE_SECONDS", "nan"),
        ("KARTA_HEALTH_PARTS", "openai"),
        ("KARTA_HEALTH_PARTS", "provider-nosuch"),
    ],
)
def test_a_setting_that_is_wrong_is_told_before_anything_starts(
    tmp_path: Path, variable: str, value: str
) -> None:
    with Up(tmp_path / "data", environment={variable: value}) as up:
        assert up.wait() == 1
    (line,) = up.errors.splitlines()
    assert line.startswith(f"karta: {variable}: ")
    assert not (tmp_path / "data").exists()


def test_what_a_child_refuses_ends_everything(tmp_path: Path) -> None:
    with Up(tmp_path / "data", environment={"KARTA_ENV": "production"}) as up:
        assert up.wait() == 1
    assert "KARTA_TRUSTED_PROXIES" in up.errors
    assert "the gateway ended (exit code 1) before it was ready" in up.errors
    assert not has_orphans(tmp_path / "data")


def test_a_directory_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").touch()
    with Up(tmp_path / "data") as up:
        assert up.wait() == 1
    assert "not Karta's" in up.errors
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["thesis.tex"]


def test_an_external_database_is_used(
    tmp_path: Path, postgres_server: PostgresServer, empty_database_name: str
) -> None:
    url = postgres_server.url(empty_database_name)
    with Up(tmp_path / "data", "--database-url", url) as up:
        told = up.wait_ready()
        assert told["database_url"] == url
        assert "keeper" not in children_of(up.process.pid)
        assert b"message_stop" in request_stream(told, told["api_key"])
        assert up.stop() == 0
    # Another data directory on the same database: its owner and organization, but no secrets to tell.
    with Up(tmp_path / "other", "--database-url", url) as other:
        again = other.wait_ready()
        assert again["org_id"] == told["org_id"]
        assert [again[name] for name in SECRETS] == [None, None, None]
        assert other.stop() == 0


def test_an_external_database_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with Up(tmp_path / "data", "--database-url", f"postgresql://karta@127.0.0.1:{free_port()}/karta") as up:
        assert up.wait() == 1
    assert len([line for line in up.errors.splitlines() if "Traceback" in line]) == 0
    assert "database" in up.errors.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_works_as_an_ordinary_user() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="karta-home-") as home:
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        python = _python_for(nobody, Path(home))
        with Up(Path(home, "data"), environment={"HOME": home}, user=nobody.pw_uid, python=python) as up:
            told = up.wait_ready()
            assert (Path(home) / "data").stat().st_uid == nobody.pw_uid
            assert b"message_stop" in request_stream(told, told["api_key"])
            assert up.stop() == 0
            assert not has_orphans(up.data_dir)


def _python_for(user: pwd.struct_passwd, home: Path) -> list[str]:
    """A Python that `user` can run Karta with: this one, or the system's if it lies out of reach."""
    packages = [path for path in sys.path if path.endswith("site-packages")] + [str(CHECKOUT)]
    for command in (
        [sys.executable],
        ["/usr/bin/env", f"PYTHONPATH={':'.join(packages)}", "/usr/bin/python3"],
    ):
        try:
            tried = subprocess.run(
                [
                    *command,
                    "-P",
                    "-c",
                    f"import sys, bcrypt, karta; assert sys.version_info[:2] == {sys.version_info[:2]}",
                ],
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                cwd=home,
                env={"HOME": str(home)},
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return command
    pytest.skip("no Python that an ordinary user can reach has Karta's packages")


def test_binds_come_from_flag_and_setting() -> None:
    default = Bind("127.0.0.1", 8080)
    assert bind_from({}, "KARTA_GATEWAY_BIND", default, None) == default
    assert bind_from({"KARTA_GATEWAY_BIND": "0.0.0.0:80"}, "KARTA_GATEWAY_BIND", default, None) == (
        "0.0.0.0",
        80,
    )
    assert bind_from({"KARTA_GATEWAY_BIND": "[::1]:80"}, "KARTA_GATEWAY_BIND", default, 0) == ("::1", 0)
    with pytest.raises(CommandError, match="KARTA_GATEWAY_BIND: write it as"):
        bind_from({"KARTA_GATEWAY_BIND": "80"}, "KARTA_GATEWAY_BIND", default, None)


def test_a_port_that_is_free_is_let_pass() -> None:
    check_port("--gateway-port", Bind("127.0.0.1", free_port()))
