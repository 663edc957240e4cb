"""Settings: names, precedence, and every problem told at once without a value in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from storage.settings import (
    FILE_BYTES_MAX,
    Bind,
    BindSetting,
    CommonSettings,
    ServerSettings,
    SettingsError,
    is_loopback,
    read_variables,
)

URL = "postgresql://karta:hunter2@127.0.0.1:5432/karta"
MASTER_KEYS = "1:" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="


class ExampleSettings(ServerSettings):
    example_bind: BindSetting = Bind("127.0.0.1", 8080)
    example_count: int = Field(default=1, ge=1)

    def listens_on(self) -> dict[str, Bind]:
        return {"KARTA_EXAMPLE_BIND": self.example_bind}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no settings file of the machine that runs the tests."""
    for name in read_variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def problems_of(settings: type[CommonSettings], **overrides: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        settings.load(**overrides)
    return caught.value.problems


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_DATABASE_URL", URL)
    monkeypatch.setenv("KARTA_EXAMPLE_BIND", "[::1]:0")
    settings = ExampleSettings.load()
    assert settings.database_url.get_secret_value() == URL
    assert settings.example_bind == Bind("::1", 0)
    assert settings.env == "development"
    assert "hunter2" not in repr(settings)


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("karta.toml").write_text(
        f'database_url = "{URL}"\nexample_count = 3\ntrusted_proxies = ["10.0.0.0/8"]\n'
        '[example]\nbind = "127.0.0.1:1"\n'
    )
    assert ExampleSettings.load().example_count == 3
    assert ExampleSettings.load().example_bind.port == 1
    assert [str(network) for network in ExampleSettings.load().trusted_proxies] == ["10.0.0.0/8"]
    monkeypatch.setenv("KARTA_EXAMPLE_COUNT", "5")
    assert ExampleSettings.load().example_count == 5
    assert ExampleSettings.load(example_count=7).example_count == 7


def test_each_variable_tells_its_origin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.toml"
    file.write_text('env = "production"\nexample_count = 2\n')
    monkeypatch.setenv("KARTA_CONFIG", str(file))
    monkeypatch.setenv("KARTA_ENV", "development")
    monkeypatch.setenv("KARTA_EMPTY", "")
    origins = {name: variable.origin for name, variable in read_variables().items()}
    assert origins["KARTA_ENV"] == "environment"
    assert origins["KARTA_EXAMPLE_COUNT"] == str(file)
    assert "KARTA_EMPTY" not in origins


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_ENV", "production")
    monkeypatch.setenv("KARTA_DATABASE_URL", "mysql://root:hunter2@db/karta")
    monkeypatch.setenv("KARTA_EXAMPLE_BIND", "8080")
    monkeypatch.setenv("KARTA_EXAMPLE_COUNT", "many")
    problems = problems_of(ExampleSettings)
    assert [problem.split(":")[0] for problem in problems] == [
        "KARTA_DATABASE_URL",
        "KARTA_EXAMPLE_BIND",
        "KARTA_EXAMPLE_COUNT",
        "KARTA_MASTER_KEYS",
        "KARTA_TRUSTED_PROXIES",
    ]
    assert "hunter2" not in str(problems)


def test_a_missing_database_names_the_variable() -> None:
    assert problems_of(CommonSettings) == (
        "KARTA_DATABASE_URL: not set; set it in the environment or in karta.toml",
    )


def test_a_bad_proxy_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_TRUSTED_PROXIES", "10.0.0.0/8, nonsense")
    problems = problems_of(ServerSettings, database_url=URL)
    assert {problem.split(":")[0] for problem in problems} == {"KARTA_TRUSTED_PROXIES"}


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"KARTA_ENV": "production"}, "KARTA_MASTER_KEYS"),
        ({"KARTA_ENV": "production", "KARTA_MASTER_KEYS": MASTER_KEYS}, "KARTA_TRUSTED_PROXIES"),
        ({"KARTA_EXAMPLE_BIND": "0.0.0.0:80"}, "KARTA_EXAMPLE_BIND"),
        ({"KARTA_MASTER_KEYS": "hunter2"}, "KARTA_MASTER_KEYS"),
        ({"KARTA_MASTER_KEYS_FILE": "/nowhere/at/all"}, "KARTA_MASTER_KEYS_FILE"),
        ({"KARTA_MASTER_KEYS": MASTER_KEYS, "KARTA_MASTER_KEYS_FILE": "x"}, "KARTA_MASTER_KEYS"),
        ({"KARTA_ENV": "staging"}, "KARTA_ENV"),
        ({"KARTA_CONFIG": "/nowhere/at/all.toml"}, "KARTA_CONFIG"),
    ],
)
def test_a_broken_rule_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    problems = problems_of(ExampleSettings, database_url=URL)
    assert problems[0].split(":")[0] == name
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    "variables",
    [
        {"KARTA_ENV": "production", "KARTA_MASTER_KEYS": MASTER_KEYS, "KARTA_TRUSTED_PROXIES": "10.0.0.1"},
        {"KARTA_ENV": "development", "KARTA_EXAMPLE_BIND": "0.0.0.0:80"},
        {"KARTA_EXAMPLE_BIND": "localhost:80"},
    ],
)
def test_a_kept_rule_is_not(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    ExampleSettings.load(database_url=URL)


def test_master_keys_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CommonSettings.load(database_url=URL).load_master_keys() is None
    monkeypatch.setenv("KARTA_MASTER_KEYS", MASTER_KEYS)
    master_keys = CommonSettings.load(database_url=URL).load_master_keys()
    assert master_keys is not None
    assert master_keys.primary_version == 1


@pytest.mark.parametrize("content", [b"password hunter2", b"\xff", b"x = 1\n" * FILE_BYTES_MAX])
def test_a_file_that_is_no_settings_file_is_refused(content: bytes) -> None:
    Path("karta.toml").write_bytes(content)
    problems = problems_of(CommonSettings)
    assert problems[0].startswith("karta.toml: ")
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:8080", Bind("127.0.0.1", 8080)),
        ("[::1]:0", Bind("::1", 0)),
        ("gateway.internal:65535", Bind("gateway.internal", 65535)),
    ],
)
def test_binds_are_parsed(text: str, bind: Bind) -> None:
    assert Bind.parse(text) == bind
    assert str(bind) == text


@pytest.mark.parametrize("text", ["", "8080", ":8080", "host:", "host:65536", "host:-1", "::1:80", "host:٨٠"])
def test_other_binds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="for example"):
        Bind.parse(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_is_told_without_a_look_up(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com", "127.0.0.1.example.com"])
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)
