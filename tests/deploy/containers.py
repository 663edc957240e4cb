"""The image, built by buildah and run by podman as the Compose file says: for `tox -e image`.

Everything lies in one folder: the engine's storage, the base, what pip is told. Containers share a network of
their own, with nothing in it but loopback and the address that the Compose file gives Caddy, so nothing else
on the machine is in the way; and the networks that an engine makes need more of the kernel than some
sandboxes give.
"""

from __future__ import annotations

import configparser
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.deploy.files import DEPLOY, ROOT, compose, filled_in

BASE = "localhost/karta-base"
IMAGE = "localhost/karta"
PROGRAMS = ("buildah", "podman", "crun", "debootstrap", "ip", "nsenter", "unshare")
BUILD_SECONDS_MAX = 3600
SECONDS_MAX = 120
_MIRROR = "http://deb.debian.org/debian"
# crun refuses where the second hierarchy of cgroups has controllers beside the first; here none is used.
_WITHOUT_SECOND_CGROUPS = 'umount -l /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'


def missing() -> list[str]:
    """Of what is needed, what is not installed here (`ip` is in iproute2)."""
    return [
        one for one in PROGRAMS if shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]


class Engine:
    """`folder` is kept between runs: a second build takes what the first one made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]

    def buildah(self, *arguments: str) -> str:
        return self._run(["buildah", *self._storage, *arguments], BUILD_SECONDS_MAX)

    def podman(self, *arguments: str, check: bool = True, text: str | None = None) -> str:
        return self._run([*self.podman_command(), *arguments], SECONDS_MAX, check, text)

    def podman_command(self) -> list[str]:
        options = ["--runtime=crun", "--cgroup-manager=cgroupfs", "--events-backend=file"]
        return [
            *("unshare", "--mount", "--propagation=private", "sh", "-c", _WITHOUT_SECOND_CGROUPS, "sh"),
            *("podman", *self._storage, *options),
        ]

    def build(self, base: str) -> str:
        """The image, by name: what `KARTA_TEST_IMAGE_NAME` says, or ours. Where packages come from is handed
        over as pip's own settings say."""
        if built := os.environ.get("KARTA_TEST_IMAGE_NAME"):
            return built
        secrets = [f"--secret=id={path.name},src={path}" for path in _pip_secrets(self.folder)]
        options = [
            "--isolation=chroot",
            "--network=host",
            "--layers",
            f"--build-arg=PYTHON_IMAGE={base}",
            *secrets,
        ]
        self.buildah("bud", *options, "-f", str(DEPLOY / "Dockerfile"), "-t", IMAGE, str(ROOT))
        return IMAGE

    def base(self) -> str:
        """The image that `KARTA_TEST_PYTHON_IMAGE` names; else Debian with its own Python, which stands for
        the one that deploy/Dockerfile names."""
        if chosen := os.environ.get("KARTA_TEST_PYTHON_IMAGE"):
            return chosen
        suite = re.findall(
            r"^ARG PYTHON_IMAGE=python:\S+-slim-(\w+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
        )[0]
        name = f"{BASE}:{suite}"
        if name not in self.buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
            root = self.folder / "root"
            shutil.rmtree(root, ignore_errors=True)
            packages = "--include=ca-certificates,python3-venv,python3-dev"
            self._run(
                ["debootstrap", "--variant=minbase", packages, suite, str(root), _MIRROR], BUILD_SECONDS_MAX
            )
            (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            container = self.buildah("from", "scratch").strip()
            self.buildah("add", "--quiet", container, str(root), "/")
            self.buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
            self.buildah("commit", "--quiet", "--rm", container, name)
            shutil.rmtree(root)
        return name

    def _run(
        self, command: Sequence[str], seconds_max: float, check: bool = True, text: str | None = None
    ) -> str:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        done = subprocess.run(
            command,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=seconds_max,
            env={**os.environ, "PATH": path},
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout


def _pip_secrets(folder: Path) -> list[Path]:
    """What the Dockerfile takes as secrets: the index and the authority that this machine's pip is set to."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    set_here = {
        name.rpartition(".")[2]: value for name, value in re.findall(r"^(\S+)='(.*)'$", told, re.MULTILINE)
    }
    wanted = {
        name: set_here[name] for name in ("index-url", "timeout", "default-timeout") if name in set_here
    }
    found = [folder / "pip.conf"]
    if "cert" in set_here:
        found.append(folder / "ca.pem")
        shutil.copy(set_here["cert"], found[-1])
        wanted["cert"] = "/run/secrets/ca.pem"
    config = configparser.RawConfigParser()
    config["global"] = wanted
    with found[0].open("w") as file:
        config.write(file)
    return found


class Network:
    """A network namespace by name, with loopback and one more address on it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self._address = address

    def __enter__(self) -> Network:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        subprocess.run(
            ["ip", "-n", self.name, "address", "add", f"{self._address}/32", "dev", "lo"], check=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def command(self, *command: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]


def options_of(name: str, environment: Mapping[str, str], prefix: str) -> list[str]:
    """What podman is told so that a container is as the Compose file's service `name`. Its environment is the
    file's, with `environment` over it; its volumes are called `prefix` and their name."""
    service: dict[str, Any] = compose()["services"][name]
    given = filled_in(service["environment"]) | dict(environment)
    _, descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = min(service["ulimits"]["nofile"], descriptors_max)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    found = [
        *(
            "--cgroups=disabled",
            "--read-only-tmpfs=false",
            f"--read-only={str(service['read_only']).lower()}",
        ),
        *(f"--tmpfs={path}" for path in service["tmpfs"]),
        *(f"--cap-drop={one}" for one in service["cap_drop"]),
        *(f"--security-opt={one.removesuffix(':true')}" for one in service["security_opt"]),
        *(f"--user={service['user']}", f"--ulimit=nofile={descriptors}:{descriptors}", "--ulimit=core=0:0"),
        f"--ulimit=nproc={min(processes, 4096)}:{min(processes, 4096)}",
        *(f"--volume={prefix}{one}" for one in service.get("volumes", [])),
        *(f"--env={key}={value}" for key, value in given.items()),
    ]
    if (grace := service.get("stop_grace_period")) is not None:
        found.append(f"--stop-timeout={grace.removesuffix('s')}")
    return found
