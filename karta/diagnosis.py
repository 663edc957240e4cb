"""What `karta doctor` finds out: the settings as they are, and checks of what they name.

A check never raises and never shows a secret: what went wrong becomes its detail. Each is bounded in
time by what it uses (the database by storage's deadlines, a provider by `CONNECT_SECONDS_MAX`).
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from resource import RLIM_INFINITY
from typing import Any, Literal, get_args

import trio
from pydantic import SecretStr

from admin.settings import AdminSettings
from gateway.process import descriptors_max, streams_max
from gateway.provider import read_table
from gateway.settings import GatewaySettings
from karta import database_choice
from karta.database_checks import check_database
from karta.database_choice import Choice
from karta.terminal import CommandError
from storage.bridge import open_database
from storage.database_url import HIDDEN, without_password
from storage.errors import DatabaseUnavailable, StorageError
from storage.migrate import ROLES, check_schema
from storage.settings import PREFIX, ServerSettings, SettingsError, Variable, read_variables

PROGRAMS: tuple[type[ServerSettings], ...] = (GatewaySettings, AdminSettings)
# Read by what is no settings class: the settings file's own name, `karta up`'s worker count, the simulator,
# the load harness.
OTHER_VARIABLES = frozenset(
    {"KARTA_CONFIG", "KARTA_HEALTH_PARTS", "KARTA_WORKERS", "KARTA_SIM_KEYS", "KARTA_SIM_KEYS_FILE"}
    | {"KARTA_BENCH_CACHE", "KARTA_BENCH_KEY", "KARTA_BENCH_NGINX"}
)
CONNECT_SECONDS_MAX = 3.0
STREAMS_WANTED = 4_000
"""Of one worker. Below that it runs out of descriptors before it runs out of a core."""
# A base URL without anything that could be a secret.
_ORIGIN = re.compile(r"https?://[^@?#]*\Z")
State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Setting:
    name: str
    value: str
    origin: str
    description: str


@dataclass(frozen=True)
class Check:
    name: str
    state: State
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    settings: list[Setting]
    checks: list[Check]

    @property
    def failed(self) -> bool:
        return any(check.state == "failed" for check in self.checks)

    def document(self) -> dict[str, object]:
        return {
            "ok": not self.failed,
            "settings": [asdict(setting) for setting in self.settings],
            "checks": [asdict(check) for check in self.checks],
        }


async def diagnose(given: argparse.Namespace) -> Diagnosis:
    """All there is to say. Raises `SettingsError` only when the settings file itself cannot be read."""
    variables = read_variables()
    checks = list(_unknown(variables))
    try:
        choice = database_choice.choose(given)
    except CommandError as error:
        choice = None
        checks.append(Check("database", "failed", str(error)))
    overrides = {} if choice is None else {"database_url": choice.owner_url}
    loaded: list[ServerSettings] = []
    problems: list[str] = []
    for program in PROGRAMS:
        try:
            loaded.append(program.load(**overrides))
        except SettingsError as error:
            problems += error.problems
    checks += [Check("settings", "failed", problem) for problem in dict.fromkeys(problems)]
    if not problems:
        checks.append(Check("settings", "ok", "every setting is sound, and the rules between them are kept"))
    checks.append(_hot_path())
    checks.append(_descriptors())
    if choice is not None:
        checks += [check async for check in _database(choice, loaded)]
        checks.append(_master_key(choice))
    for settings in loaded:
        if isinstance(settings, GatewaySettings):
            up = choice is not None and choice.running is not None
            checks += [check async for check in _providers(settings, simulated=up)]
        if isinstance(settings, AdminSettings):
            checks += _payments(settings)
            checks.append(_mail(settings))
            if settings.webhooks_allowed_networks:
                checks.append(_opened_networks(settings))
    return Diagnosis(list_settings(variables), checks)


def list_settings(variables: dict[str, Variable]) -> list[Setting]:
    """Every setting of every program, sorted by name, once each."""
    found: dict[str, Setting] = {}
    for program in PROGRAMS:
        for field, info in program.model_fields.items():
            name = PREFIX + field.upper()
            if _is_family(info.annotation):
                found |= _list_family(variables)
                continue
            variable = variables.get(name)
            default = info.get_default(call_default_factory=True)
            value = _show(name, info.annotation, default if variable is None else variable.value)
            if variable is None and info.is_required():
                value = "(not set)"
            origin = "default" if variable is None else variable.origin
            found[name] = Setting(name, value, origin, info.description or "")
    return [found[name] for name in sorted(found)]


def _is_family(annotation: object) -> bool:
    return annotation == dict[str, SecretStr]


def _list_family(variables: dict[str, Variable]) -> dict[str, Setting]:
    """Hidden is all but what is known to be no key: a misspelt name may hold one."""
    prefixes = [f"{PREFIX}PROVIDER_{name.upper()}_" for name in read_table()]
    shown = {prefix + word for prefix in prefixes for word in ("CA_FILE", "STREAM_USAGE")}
    urls = {f"{prefix}BASE_URL" for prefix in prefixes}
    return {
        name: Setting(
            name,
            str(variable.value)
            if name in shown or (name in urls and _ORIGIN.match(str(variable.value)))
            else HIDDEN,
            variable.origin,
            "An upstream provider.",
        )
        for name, variable in variables.items()
        if name.startswith(f"{PREFIX}PROVIDER_")
    }


def _show(name: str, annotation: object, value: Any) -> str:
    if value is None or value == ():
        return "(none)"
    if name == "KARTA_DATABASE_URL":
        return without_password(str(value))
    if annotation is SecretStr or SecretStr in get_args(annotation):
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def known_variables() -> set[str]:
    """Every variable that somebody reads, but for those of providers."""
    known = set(OTHER_VARIABLES)
    for program in PROGRAMS:
        known |= {PREFIX + field.upper() for field in program.model_fields}
    return known


def _unknown(variables: dict[str, Variable]) -> Iterator[Check]:
    """Variables nobody reads, which are most often a misspelt one."""
    known = known_variables()
    for name, variable in variables.items():
        if name in known or name.startswith(f"{PREFIX}PROVIDER_"):
            continue
        close = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        yield Check("settings", "warning", f"nothing reads {name} (from {variable.origin}){meant}")


def _hot_path() -> Check:
    found = find_spec("gateway.lane")
    if found is not None and found.origin is not None and found.origin.endswith(".so"):
        return Check("hot path", "ok", "compiled")
    return Check(
        "hot path", "ok", "interpreted: docs/how-to/production.md tells how to compile it, for speed"
    )


def _descriptors() -> Check:
    """Only the hard limit counts: the gateway raises its own soft one."""
    limit = descriptors_max()
    streams = streams_max(limit)
    if limit == RLIM_INFINITY:
        return Check("open files", "ok", "as many as there is memory for")
    detail = f"a process may have {limit}, so that each worker can serve {streams} streams at once"
    if streams < STREAMS_WANTED:
        return Check("open files", "warning", f"{detail}: raise the hard limit (LimitNOFILE=, ulimit -Hn)")
    return Check("open files", "ok", detail)


async def _database(choice: Choice, loaded: Sequence[ServerSettings]) -> AsyncIterator[Check]:
    try:
        async with open_database(choice.owner_url, role=None, connections_max=1) as db:
            version = await db.fetch_value("SHOW server_version")
            yield Check("database", "ok", f"PostgreSQL {version} answers (chosen by {choice.origin})")
            await check_schema(db)
            yield Check("schema", "ok", "is this release's")
            with contextlib.suppress(StorageError, SettingsError):  # told by `_master_key`
                master_keys = choice.load_master_keys()
                async for found in check_database(db, loaded, master_keys):
                    yield Check(*found)
    except DatabaseUnavailable as error:
        yield Check("database", "failed", f"{error}: {choice.place}")
        return
    except StorageError as error:
        yield Check("database", "failed", f"{error} (chosen by {choice.origin})")
        return
    for role in ROLES:
        try:
            async with open_database(choice.owner_url, role=role, connections_max=1) as db:
                there = await db.fetch_value("SELECT current_user")
            if there == role:
                yield Check("roles", "ok", f"statements can run as {role}")
            else:
                # A pooler that ignores what is asked for as a session begins.
                mend = f"ALTER ROLE … SET role = '{role}' for the login of its program"
                detail = f"statements run as {there} instead of {role}: {mend} (docs/how-to/pgbouncer.md)"
                yield Check("roles", "failed", detail)
        except StorageError as error:
            yield Check("roles", "failed", f"{role}: {error}")


def _master_key(choice: Choice) -> Check:
    try:
        master_keys = choice.load_master_keys()
    except (StorageError, SettingsError) as error:
        return Check("master key", "failed", str(error))
    if master_keys is None:
        mend = "`karta master-key generate` makes one, and KARTA_MASTER_KEYS takes it"
        return Check("master key", "warning", f"none: no provider keys of one's own, no webhooks; {mend}")
    versions = ", ".join(str(version) for version in master_keys.versions)
    return Check("master key", "ok", f"version {master_keys.primary_version} seals (known: {versions})")


def _payments(settings: AdminSettings) -> Iterator[Check]:
    """Stripe itself is not asked: that is for `karta billing reconcile`."""
    if settings.stripe_api_key is None:
        yield Check("payments", "ok", "Stripe is not set up: staff give plans")
        return
    mode = "live" if settings.stripe_is_live else "test"
    yield Check("payments", "ok", f"by Stripe, in {mode} mode, at {settings.stripe_api_base}")
    for warning in settings.payment_warnings():
        yield Check("payments", "warning", warning)


def _opened_networks(settings: AdminSettings) -> Check:
    networks = ", ".join(map(str, settings.webhooks_allowed_networks))
    return Check(
        "webhooks",
        "warning",
        f"customers can make this server call into {networks}: unset KARTA_WEBHOOKS_ALLOWED_NETWORKS unless "
        "they are all your own",
    )


def _mail(settings: AdminSettings) -> Check:
    if settings.sends_mail:
        return Check("mail", "ok", f"Postmark sends it, from {settings.mail_from}")
    if settings.env == "production":
        mend = "set KARTA_POSTMARK_TOKEN and KARTA_MAIL_FROM"
        return Check("mail", "warning", f"none is sent: nobody can sign up or set a new password; {mend}")
    return Check("mail", "ok", "none is sent: it waits in the admin pages' /outbox")


async def _providers(settings: GatewaySettings, *, simulated: bool) -> AsyncIterator[Check]:
    for name, provider in settings.providers().items():
        family = f"KARTA_PROVIDER_{name.upper()}_"
        named = any(variable.startswith(family) for variable in settings.provider_variables)
        if name != provider.dialect and not named:
            # Known, but nobody said that it is used: it need not hear of this machine.
            continue
        if simulated and not named:
            told = f"simulated by `karta up`, until {family}API_KEY brings the real one"
            yield Check(f"provider {name}", "ok", told)
            continue
        origin = provider.origin
        place = f"{'https' if origin.tls else 'http'}://{origin.host}:{origin.port}"
        key = "with a platform key" if provider.platform_key else "without a platform key"
        try:
            with trio.fail_after(CONNECT_SECONDS_MAX):
                stream = await trio.open_tcp_stream(origin.host, origin.port)
                await stream.aclose()
            yield Check(f"provider {name}", "ok", f"{place} can be reached, {key}")
        except (OSError, trio.TooSlowError):
            yield Check(f"provider {name}", "warning", f"{place} cannot be reached from here, {key}")
