"""Settings: typed, from `KARTA_…` variables and `karta.toml`, with every problem told at once.

One map of variables is read first (`read_variables`): the file's entries under their environment names, then
the environment over them. Every settings class is filled from that map, so a setting has one name everywhere,
and `karta doctor` can say where each value came from. A program's settings class lists its own fields, may
`collect` families of variables whose names are not known beforehand, and adds rules between fields in
`problems`.

Bounds: the file is read once at start and may not exceed `FILE_BYTES_MAX`. Values that are secrets are
`SecretStr`, and no message ever quotes a value, because messages end in logs.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from storage.database_url import check_database_url
from storage.errors import SealError

if TYPE_CHECKING:
    from storage.sealing import MasterKeys

PREFIX = "KARTA_"
FILE_VARIABLE = "KARTA_CONFIG"
"""Names the settings file; else `karta.toml` of the working directory is read, if there is one."""
FILE_NAME = "karta.toml"
FILE_BYTES_MAX = 256 * 1024
"""Far above any settings file; a guard against pointing KARTA_CONFIG at a log or a device."""


class SettingsError(Exception):
    """The settings cannot be used; `problems` has one sentence each, naming the variable and the mend."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class Variable(NamedTuple):
    """One setting as found: its raw value and where it came from ("environment" or the file's path)."""

    value: object
    origin: str


def read_variables(environ: Mapping[str, str] | None = None) -> dict[str, Variable]:
    """Every `KARTA_…` variable that is set, the environment winning over the settings file.

    An empty variable counts as not set, as an empty line in a compose file means. Raises `SettingsError` when
    the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    variables = _read_file(environ)
    for name, value in environ.items():
        if name.startswith(PREFIX) and value != "":
            variables[name] = Variable(value, "environment")
    return variables


def _read_file(environ: Mapping[str, str]) -> dict[str, Variable]:
    named = environ.get(FILE_VARIABLE)
    path = Path(named or FILE_NAME)
    if not named and not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise SettingsError((f"{path}: larger than {FILE_BYTES_MAX} bytes, so not a settings file",))
        entries = tomllib.loads(content.decode())
    except OSError as error:
        raise SettingsError(
            (f"{FILE_VARIABLE}: cannot read {path} ({error.strerror}); name a readable file",)
        ) from None
    except ValueError:
        # The parser's message may quote the line, and the line may hold a password.
        raise SettingsError((f"{path}: not valid TOML in UTF-8; each line is `name = value`",)) from None
    return {name: Variable(value, str(path)) for name, value in _flatten(entries, PREFIX)}


def _flatten(table: Mapping[str, object], prefix: str) -> list[tuple[str, object]]:
    """Tables join by underscores: `[provider.anthropic] base_url` is KARTA_PROVIDER_ANTHROPIC_BASE_URL."""
    flat: list[tuple[str, object]] = []
    for name, value in table.items():
        variable = prefix + name.upper()
        if isinstance(value, Mapping):
            flat += _flatten(value, variable + "_")
        else:
            flat.append((variable, value))
    return flat


class Bind(NamedTuple):
    """Where a server listens. Port 0 asks the system for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @classmethod
    def parse(cls, text: object) -> Bind:
        """From `host:port` or `[v6]:port`; raises ValueError that shows the shape."""
        if isinstance(text, cls):
            return text
        host, colon, port = str(text).rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError(
                "write it as host:port, for example 127.0.0.1:8080 or [::1]:8080 (port 0 takes a free one)"
            )
        if ":" in host and not bracketed:
            raise ValueError("write an IPv6 address in brackets, for example [::1]:8080")
        return cls(host, int(port))


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses; a name is never looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_list(value: object) -> object:
    """A comma list as it is written in a variable; a list of the settings file is taken as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


BindSetting = Annotated[Bind, BeforeValidator(Bind.parse)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _VariablesSource(PydanticBaseSettingsSource):
    """The one source of every settings class: `collect` over the variables found."""

    settings_cls: type[CommonSettings]

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("all fields are collected together, in __call__")

    def __call__(self) -> dict[str, Any]:
        found = {name: variable.value for name, variable in read_variables().items()}
        return self.settings_cls.collect(found)


class CommonSettings(BaseSettings):
    """What every program over the database needs. Build it by `load`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False
    )

    env: Literal["production", "development"] = Field(
        default="development",
        description="`production` enforces TLS or a trusted proxy, a master key and https providers. Left "
        "unset it is `development`, and then servers may listen on loopback only.",
    )
    database_url: SecretStr = Field(
        description="The Postgres database, as postgresql://user:password@host:port/name.",
        examples=["postgresql://karta@127.0.0.1:5432/karta"],
    )
    master_keys: SecretStr | None = Field(
        default=None,
        description="Versioned master keys that seal provider credentials: `1:<base64 of 32 bytes>,2:…`; the "
        "highest version seals.",
    )
    master_keys_file: Path | None = Field(
        default=None, description="A file (mode 0600) that holds the master keys instead of the variable."
    )
    sentry_dsn: SecretStr | None = Field(
        default=None,
        description="Where faults are reported: a project's DSN of Sentry, or of what speaks its protocol "
        "(unset: nowhere).",
        examples=["https://public@sentry.example.com/1"],
    )
    sentry_environment: str | None = Field(
        default=None,
        pattern=r"^[0-9A-Za-z_.-]{1,64}$",
        description="What reports name as their environment (unset: KARTA_ENV).",
    )
    sentry_traces_percent: float = Field(
        default=0, ge=0, le=100, description="How many of the requests Sentry is told the times of."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _VariablesSource(settings_cls)

    @classmethod
    def collect(cls, variables: Mapping[str, object]) -> dict[str, object]:
        """This class's fields out of all variables: `env` from KARTA_ENV, and so on.

        A class with a family of variables (KARTA_PROVIDER_<NAME>_BASE_URL) extends this and puts the family
        together as one field.
        """
        names = {field: PREFIX + field.upper() for field in cls.model_fields}
        return {field: variables[name] for field, name in names.items() if name in variables}

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """The settings of this process; `overrides` are fields given on the command line, which win.

        Raises `SettingsError` with every problem found, of single values and of rules between them.
        """
        try:
            settings = cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            problems = [cls._describe(detail["loc"], detail["msg"], detail["type"]) for detail in details]
            failed = {str(detail["loc"][0]) for detail in details if detail["loc"]}
            # A bad item of a list fails once per type it might have been: one sentence is enough.
            raise SettingsError(
                tuple(dict.fromkeys(problems + cls._rules_without(failed, overrides)))
            ) from None
        if problems := settings.problems():
            raise SettingsError(tuple(problems))
        return settings

    @classmethod
    def _rules_without(cls, failed: set[str], overrides: Mapping[str, object]) -> list[str]:
        """The broken rules between sound values; failed fields stand at their default or first example."""
        values = {field: value for field, value in overrides.items() if field not in failed}
        for field in failed & set(cls.model_fields):
            info = cls.model_fields[field]
            values[field] = info.examples[0] if info.examples else info.get_default(call_default_factory=True)
        try:
            return cls(**values).problems()  # type: ignore[arg-type]
        except ValidationError:
            return []  # a required field without an example: its problem is told, the rules follow later

    @classmethod
    def variable_name(cls, location: tuple[int | str, ...]) -> str:
        """The variable a problem's location belongs to; a class with a family of variables extends this."""
        return PREFIX + str(location[0]).upper() if location else PREFIX + "*"

    @classmethod
    def _describe(cls, location: tuple[int | str, ...], message: str, kind: str) -> str:
        name = cls.variable_name(location)
        if kind == "missing":
            return f"{name}: not set; set it in the environment or in {FILE_NAME}"
        return f"{name}: {message.removeprefix('Value error, ')}"

    def problems(self) -> list[str]:
        """Broken rules between settings, one sentence each; a subclass adds its own to `super()`'s."""
        problems = []
        if self.master_keys and self.master_keys_file:
            problems.append("KARTA_MASTER_KEYS: KARTA_MASTER_KEYS_FILE is set as well; keep one of the two")
        elif self.env == "production" and not (self.master_keys or self.master_keys_file):
            problems.append(
                "KARTA_MASTER_KEYS: production needs a master key; make one with `karta master-key generate` "
                "and set it, or KARTA_MASTER_KEYS_FILE"
            )
        if self.master_keys or self.master_keys_file:
            problems += self._master_key_problems()
        return problems

    def _master_key_problems(self) -> list[str]:
        try:
            self.load_master_keys()
        except SealError as error:
            return [f"KARTA_MASTER_KEYS{'_FILE' if self.master_keys_file else ''}: {error}"]
        return []

    def load_master_keys(self) -> MasterKeys | None:
        """The master keys, or None when no key is configured. Raises `SealError` that names the mend."""
        # Sealing brings in cryptography; a program that has no master key does not pay for it.
        from storage.sealing import MasterKeys

        if self.master_keys is not None:
            return MasterKeys.parse(self.master_keys.get_secret_value())
        if self.master_keys_file is not None:
            return MasterKeys.load_file(self.master_keys_file)
        return None

    @field_validator("sentry_dsn")
    @classmethod
    def _check_sentry_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        parts = urlsplit(value.get_secret_value())
        sound = parts.username and parts.hostname and parts.path.rpartition("/")[2].isdigit()
        if parts.scheme not in ("http", "https") or not sound:
            raise ValueError("write it as https://public-key@host/project, as the project's settings show it")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("begin it with https: reports are for nobody else's eyes")
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        check_database_url(value.get_secret_value())
        return value


class ServerSettings(CommonSettings):
    """What a program that listens needs besides: who may stand before it, and the rules of exposure."""

    TLS_MEND: ClassVar[str] = (
        "KARTA_TRUSTED_PROXIES: production needs TLS; name the addresses of the proxy that terminates it "
        "(for example 10.0.0.0/8)"
    )

    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(split_list)] = Field(
        default=(),
        description="Addresses or networks of the proxies before Karta, comma separated. Only their "
        "forwarding headers are believed.",
    )

    def listens_on(self) -> dict[str, Bind]:
        """The public binds by the name of their variable; a server overrides it."""
        return {}

    def terminates_tls(self) -> bool:
        """True when the server itself speaks TLS; a server that can overrides it."""
        return False

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.env == "production" and not (self.trusted_proxies or self.terminates_tls()):
            problems.append(self.TLS_MEND)
        if "env" not in self.model_fields_set:
            # To be reachable from elsewhere is a decision: forgetting KARTA_ENV must not expose a lax server.
            problems += [
                f"{name}: {bind} is not loopback; set KARTA_ENV=production (or development, if you mean it)"
                for name, bind in self.listens_on().items()
                if not bind.is_loopback
            ]
        return problems
