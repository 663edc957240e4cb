"""What a comparison ran on: without it, figures cannot be read later."""

import os
import platform
from importlib import metadata
from pathlib import Path

import msgspec

# A machine that is more loaded than this before the run is not ours alone.
idle_load_max = 0.5
_PACKAGES = ("karta", "trio", "httptools", "uvloop", "hypercorn", "httpx", "msgspec")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Processor, kernel and versions; `cpus` are the cores this process may use.

    `load_before` is how many processes wanted to run in the minute before: above a fraction of one,
    others were at work, and the figures are theirs as much as ours.
    """

    processor: str
    cpus: list[int]
    kernel: str
    python: str
    packages: dict[str, str]
    compiled: bool = False
    """Karta's hot path is compiled, which an ordinary installation is not."""
    load_before: float


def processor_name() -> str:
    """Return the processor's name from /proc/cpuinfo, or the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.machine()


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that matter for speed, as far as they are installed."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hot_path_is_compiled() -> bool:
    """Whether the Karta that is installed here was built with its hot path compiled."""
    try:
        files = metadata.files("karta") or []
    except metadata.PackageNotFoundError:
        return False
    return any(file.match("gateway/lane.*.so") for file in files)


def this_machine() -> Machine:
    return Machine(
        processor=processor_name(),
        cpus=sorted(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        packages=package_versions(),
        compiled=hot_path_is_compiled(),
        load_before=os.getloadavg()[0],
    )


def divide_cpus(cpus: list[int]) -> tuple[list[int], list[int]]:
    """Return (the target's core, the harness's cores); both empty, so unpinned, if there is only one."""
    if len(cpus) < 2:
        return [], []
    return cpus[:1], cpus[1:]
