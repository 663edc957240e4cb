"""What the files of `deploy/` set is read by somebody, and the programs start with it."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from admin.server import STOP_SECONDS_MAX
from admin.settings import AdminSettings
from gateway.settings import GatewaySettings
from karta.children import DRAIN_MARGIN_SECONDS
from karta.cli import parse
from karta.diagnosis import known_variables
from karta.health_targets import load_targets
from tests.deploy.files import (
    BASE,
    DEPLOY,
    ROOT,
    STANDING_FOR_SECRETS,
    compose,
    containers,
    environment_of,
    filled_in,
    manifest,
    units,
)


def test_every_setting_that_is_named_exists() -> None:
    unknown = [
        f"{path.relative_to(DEPLOY)}: {name}"
        for path in DEPLOY.rglob("*")
        if path.is_file() and path.suffix != ".json"
        for name in re.findall(r"\bKARTA_[A-Z0-9_]*[A-Z0-9]\b", path.read_text())
        if name not in known_variables() and not name.startswith("KARTA_PROVIDER_")
    ]
    assert unknown == []


def test_the_image_is_called_alike_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert compose()["services"]["gateway"]["image"] == f"karta:{version}"
    (image,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == version
    documents = [*(ROOT / "docs").rglob("*.md"), *(path for path in DEPLOY.rglob("*") if path.is_file())]
    named = [
        (path.relative_to(ROOT), tag)
        for path in documents
        for tag in re.findall(r"docker (?:run(?: --\w+)*|build .*-t) (karta\S*)", path.read_text())
    ]
    assert {Path("docs/tutorial/to-production.md"), Path("deploy/compose/example.env")} < dict(named).keys()
    assert [(path, tag) for path, tag in named if tag != f"karta:{version}"] == []


def test_the_tutorial_makes_a_master_key_before_compose_asks_for_it() -> None:
    """Without one each command of `docker compose` ends at once, `build` as well."""
    text = (ROOT / "docs" / "tutorial" / "to-production.md").read_text()
    assert text.index("docker build -f ../../deploy/Dockerfile") < text.index("master-key generate")
    assert text.index("master-key generate") < text.index("docker compose")


def _commands() -> list[tuple[str, list[str]]]:
    found = [(name, one["args"]) for name, one in containers()]
    found += [
        (name, one["command"])
        for name, one in compose()["services"].items()
        if one.get("image", "").startswith("karta")
    ]
    for name, text in units().items():
        found += [
            (name, shlex.split(line))
            for line in re.findall(r"^ExecStart=/opt/karta/bin/karta (.*)$", text, re.MULTILINE)
        ]
    return found


@pytest.mark.parametrize(("where", "command"), _commands())
def test_every_command_exists(where: str, command: list[str]) -> None:
    if command[0].startswith("while"):
        command = re.findall(r"karta (\w+)", command[0])
    parse([str(one) for one in command])


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Any:
    def give(environment: dict[str, Any]) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))

    return give


def _gateway_container() -> dict[str, Any]:
    containers = manifest("StatefulSet", "karta-gateway")["spec"]["template"]["spec"]["containers"]
    (found,) = [one for one in containers if one["name"] == "gateway"]
    return dict(found)


def test_on_kubernetes_the_programs_start_so(given: Any) -> None:
    given(environment_of(_gateway_container()))
    settings = GatewaySettings.load()
    assert settings.env == "production"
    (admin,) = manifest("Deployment", "karta-admin")["spec"]["template"]["spec"]["containers"]
    given(environment_of(admin))
    assert AdminSettings.load().admin_bind.port == 8000


def test_under_compose_the_programs_start_so(given: Any) -> None:
    services = compose()["services"]
    given(filled_in(services["gateway"]["environment"]))
    assert GatewaySettings.load().public_url == "https://g.example"
    given(filled_in(services["admin"]["environment"]))
    assert AdminSettings.load().admin_url == "https://a.example"


def test_under_systemd_the_programs_start_so(given: Any) -> None:
    lines = (DEPLOY / "systemd" / "karta.env.example").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    given({name: value for name, value in environment.items() if value} | STANDING_FOR_SECRETS)
    assert GatewaySettings.load().simulated_base_url == "http://127.0.0.1:9001"
    assert AdminSettings.load().env == "production"


def test_nobody_is_killed_before_it_has_drained(given: Any) -> None:
    environment = environment_of(_gateway_container())
    drain = float(environment["KARTA_DRAIN_SECONDS"]) + float(environment["KARTA_DRAIN_NOTICE_SECONDS"])
    pod = manifest("StatefulSet", "karta-gateway")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= drain + DRAIN_MARGIN_SECONDS
    readiness = _gateway_container()["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    assert float(environment["KARTA_DRAIN_NOTICE_SECONDS"]) >= noticed

    gateway = compose()["services"]["gateway"]
    seconds = float(gateway["stop_grace_period"].removesuffix("s"))
    assert seconds >= float(gateway["environment"]["KARTA_DRAIN_SECONDS"]) + DRAIN_MARGIN_SECONDS
    unit = units()["karta-gateway.service"]
    drain = float(re.findall(r"KARTA_DRAIN_SECONDS=(\d+)", unit)[0])
    assert float(re.findall(r"TimeoutStopSec=(\d+)", unit)[0]) >= drain + DRAIN_MARGIN_SECONDS

    admin = manifest("Deployment", "karta-admin")["spec"]["template"]["spec"]
    slept = float(admin["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert admin["terminationGracePeriodSeconds"] >= slept + STOP_SECONDS_MAX + 5


def test_with_compose_the_health_job_knows_what_to_look_at_and_no_key_of_it() -> None:
    services = compose()["services"]
    given = services["health"]["environment"]
    keys = {name: value for name, value in given.items() if name.endswith("_API_KEY")}
    told = services["gateway"]["environment"] | services["admin"]["environment"]
    used = {name for name in told if name.endswith("_API_KEY")} - {"KARTA_SIMULATED_API_KEY"}
    assert keys.keys() == used
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\+set\}", value) for value in keys.values())


def test_on_kubernetes_the_health_job_knows_what_to_look_at_and_no_key_of_it() -> None:
    template = manifest("CronJob", "karta-health")["spec"]["jobTemplate"]["spec"]["template"]
    (health,) = template["spec"]["containers"]
    given = environment_of(health)
    assert not [name for name in given if name.endswith("_API_KEY")]
    used = {one["name"] for one in _gateway_container()["env"] if one["name"].startswith("KARTA_PROVIDER_")}
    assert {f"KARTA_PROVIDER_{name.upper()}_API_KEY" for name in load_targets(given).providers} == used
