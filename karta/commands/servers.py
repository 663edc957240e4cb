"""`karta gateway`, `karta admin`, `karta sim`: one program each, in this process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from karta import database_choice, lifeline
from karta.commands.up import port, process_count, worker_count
from karta.terminal import CommandError, print_error, print_json
from storage import error_reports

if TYPE_CHECKING:
    from admin.provider_check import Endpoint
    from admin.settings import AdminSettings
    from gateway.settings import GatewaySettings
    from karta.terminal import Commands


def register(commands: Commands) -> None:
    gateway = commands.add_parser(
        "gateway",
        help="serve SDK traffic",
        description="Serve SDK traffic until SIGTERM. Settings come from KARTA_… variables and karta.toml: "
        "see `karta doctor`. With several workers, SIGHUP replaces them one by one, by others that read the "
        "settings anew; no request fails for it.",
    )
    database_choice.add_server_arguments(gateway)
    gateway.add_argument(
        "--workers",
        type=worker_count,
        metavar="N",
        help="processes that serve, or `auto` for one a core (default: KARTA_WORKERS, or 1)",
    )
    # Of several, one is started so; what it serves comes by this descriptor.
    gateway.add_argument("--control", type=int, metavar="DESCRIPTOR", help=argparse.SUPPRESS)
    gateway.set_defaults(run=run_gateway)
    admin = commands.add_parser(
        "admin",
        help="serve the admin pages",
        description="Serve the admin pages until SIGTERM. Settings come from KARTA_… variables and "
        "karta.toml: see `karta doctor`. Several processes accept from one socket; one that dies is followed "
        "by another.",
    )
    database_choice.add_server_arguments(admin)
    admin.add_argument(
        "--processes",
        type=process_count,
        metavar="N",
        help="processes that serve, on one port (default: KARTA_ADMIN_PROCESSES, or 1)",
    )
    # Of several, one is started so; it accepts from this descriptor.
    admin.add_argument("--listener", type=int, metavar="DESCRIPTOR", help=argparse.SUPPRESS)
    admin.set_defaults(run=run_admin)
    simulated = commands.add_parser(
        "sim",
        help="run the simulated provider",
        description="Run a simulated LLM provider on 127.0.0.1: the Anthropic and OpenAI APIs, with no real "
        "model behind them. It accepts the keys of KARTA_SIM_KEYS (comma list) or KARTA_SIM_KEYS_FILE; "
        "without these, any key that is not Karta's own. GET /_sim/ledger tells what it saw.",
    )
    simulated.add_argument(
        "--port", type=port, default=0, metavar="PORT", help="default 0, which takes a free one"
    )
    simulated.set_defaults(run=run_simulated)
    for parser in (gateway, admin, simulated):
        parser.add_argument("--json", action="store_true", help="print one JSON line when ready")
        parser.add_argument(
            lifeline.FLAG,
            action="store_true",
            help="stop when stdin ends, as after the death of a supervisor",
        )


def run_gateway(given: argparse.Namespace) -> None:
    _hold_lifeline(given)
    from gateway.settings import GatewaySettings
    from gateway.spool import SpoolLocked

    if given.control is not None:
        from gateway import supervised

        supervised.main(given.control)
        return
    overrides = database_choice.server_overrides(given)
    if given.workers is not None:
        overrides["workers"] = given.workers
    settings = GatewaySettings.load(**overrides)
    error_reports.begin(settings, "gateway")
    try:
        with _errors_told(str(settings.gateway_bind), "KARTA_GATEWAY_BIND"):
            if settings.workers == 1:
                _serve_alone(settings, given)
            else:
                _supervise(settings, given, overrides)
    except SpoolLocked as error:
        raise CommandError(f"{error}: give this one its own by KARTA_SPOOL_DIR") from None


def _serve_alone(settings: GatewaySettings, given: argparse.Namespace) -> None:
    from gateway.worker import main

    main(settings, on_ready=_announce(given, "gateway_url"))


def _supervise(settings: GatewaySettings, given: argparse.Namespace, overrides: Mapping[str, object]) -> None:
    from gateway.slot import WorkerFailed
    from gateway.supervisor import main

    # -P: as in `children`.
    command = [sys.executable, "-P", "-m", "karta", "gateway", lifeline.FLAG, "--control"]
    try:
        main(
            settings,
            command=command,
            overrides={name: None if value is None else str(value) for name, value in overrides.items()},
            on_ready=_announce(given, "gateway_url"),
        )
    except WorkerFailed as error:
        raise CommandError(str(error)) from None


def run_admin(given: argparse.Namespace) -> None:
    _hold_lifeline(given)
    from admin.server import main
    from admin.settings import AdminSettings

    overrides = database_choice.server_overrides(given)
    if given.processes is not None:
        overrides["admin_processes"] = given.processes
    settings = AdminSettings.load(**overrides)
    error_reports.begin(settings, "admin")
    endpoints = _load_endpoints(development=settings.env == "development")
    ready = _announce(given, "admin_url")
    with _errors_told(str(settings.admin_bind), "KARTA_ADMIN_BIND"):
        if given.listener is None and settings.admin_processes > 1:
            _supervise_admin(settings, given, ready)
        else:
            main(settings, endpoints, on_ready=ready, listening=given.listener)


def _supervise_admin(
    settings: AdminSettings, given: argparse.Namespace, ready: Callable[[str], None]
) -> None:
    from karta.admin_processes import main

    # A URL goes by the environment, since it may hold a password; the other settings they read as we did.
    environment, arguments = dict(os.environ), []
    if given.database_url is not None:
        environment["KARTA_DATABASE_URL"] = given.database_url
    elif given.data_dir is not None:
        arguments = ["--data-dir", str(given.data_dir)]
    main(settings, arguments, environment, ready)


def _load_endpoints(*, development: bool) -> dict[str, Endpoint]:
    from gateway.provider import ProviderError
    from karta.provider_endpoints import load_endpoints
    from storage.settings import SettingsError, read_variables

    variables = {name: variable.value for name, variable in read_variables().items()}
    try:
        return load_endpoints(variables, development=development)
    except ProviderError as error:
        raise SettingsError(tuple(str(error).splitlines())) from None


def run_simulated(given: argparse.Namespace) -> None:
    _hold_lifeline(given)
    from bench.sim.command import keys_from_environment, main

    with _errors_told(f"127.0.0.1:{given.port}", "--port"):
        main(given.port, keys=keys_from_environment(), json_output=given.json)


def _hold_lifeline(given: argparse.Namespace) -> None:
    # Before the imports of a program: its parent may go while they run.
    if given.stop_with_stdin:
        lifeline.hold()


def _announce(given: argparse.Namespace, key: str) -> Callable[[str], None]:
    def ready(url: str) -> None:
        if given.json:
            print_json({key: url})
        else:
            print_error(f"ready on {url}")

    return ready


@contextmanager
def _errors_told(bind: str, mend: str) -> Iterator[None]:
    """Turns what the system refuses, a port or a directory, into one clear line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.filename is not None:
            raise CommandError(f"cannot use {error.filename} ({reason})") from None
        raise CommandError(f"cannot listen on {bind} ({reason}): choose another by {mend}") from None
