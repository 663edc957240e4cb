"""Which database a command means: flag, data directory, variable, and none at all."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from karta import database_choice
from karta.data_dir import DataDir, default_path
from karta.terminal import CommandError, Parser
from storage.bridge import Database
from storage.model import ActorKind
from storage.sealing import MasterKeys
from tests.karta.test_data_dir import RUNNING
from tests.support.ports import free_port

URL = "postgresql://karta:hunter2@db/karta"


def given(*arguments: object) -> argparse.Namespace:
    parser = Parser()
    database_choice.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


def test_the_flag_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_DATABASE_URL", "postgresql://other/karta")
    choice = database_choice.choose(given("--database-url", URL))
    assert (choice.owner_url, choice.admin_url) == (URL, URL)
    assert "hunter2" not in repr(choice)


def test_the_variable_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_DATABASE_URL", URL)
    assert database_choice.choose(given()).owner_url == URL


def test_the_settings_file_names_one() -> None:
    Path("karta.toml").write_text(f'database_url = "{URL}"\n')
    assert database_choice.choose(given()).owner_url == URL


def test_a_data_directory_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KARTA_DATABASE_URL", URL)
    data_dir = DataDir.open(tmp_path / "data")
    with data_dir.locked():
        data_dir.announce(RUNNING)
        choice = database_choice.choose(given("--data-dir", tmp_path / "data"))
    assert (choice.owner_url, choice.admin_url) == (RUNNING.database_url, RUNNING.admin_database_url)


def test_the_default_directory_is_looked_into_last() -> None:
    data_dir = DataDir.open(default_path())
    with data_dir.locked():
        data_dir.announce(RUNNING)
        assert database_choice.choose(given()).running == RUNNING


@pytest.mark.parametrize("arguments", [(), ("--data-dir", "nowhere")])
def test_none_is_an_error_that_names_the_ways(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=r"`karta up` .* --database-url, --data-dir or KARTA_DATABASE_URL"):
        database_choice.choose(given(*arguments))


def test_what_is_no_url_is_refused_without_quoting_it() -> None:
    with pytest.raises(CommandError, match="write it as") as caught:
        database_choice.choose(given("--database-url", "mysql://root:hunter2@db"))
    assert "hunter2" not in str(caught.value)


def test_master_keys_come_from_where_the_database_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert database_choice.choose(given("--database-url", URL)).load_master_keys() is None
    monkeypatch.setenv("KARTA_MASTER_KEYS", MasterKeys.generate(3))
    found = database_choice.choose(given("--database-url", URL)).load_master_keys()
    assert found is not None
    assert found.primary_version == 3


def test_work_is_done_as_the_admin_role(database_url: str) -> None:
    async def work(db: Database) -> str:
        name: str = await db.fetch_value("SELECT current_user")
        return name

    assert database_choice.run(given("--database-url", database_url), work) == "karta_admin"


def test_the_audit_log_names_the_operating_systems_user() -> None:
    actor = database_choice.actor()
    assert actor.kind is ActorKind.CLI
    assert actor.actor_id


@pytest.mark.parametrize("run", [database_choice.run, database_choice.run_as_owner])
def test_of_a_database_that_is_away_it_is_told_which(run: Callable[..., None]) -> None:
    port = free_port()

    async def work(db: Database) -> None:
        await db.fetch_value("SELECT 1")

    place = f"postgresql://karta:…@127.0.0.1:{port}/karta, chosen by --database-url"
    with pytest.raises(CommandError, match=rf"\(ConnectionRefusedError\): {re.escape(place)}$"):
        run(given("--database-url", f"postgresql://karta:hunter2@127.0.0.1:{port}/karta"), work)
