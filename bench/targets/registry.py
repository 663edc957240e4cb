"""All targets by name, in the order in which reports list them."""

from bench.targets.base import Target
from bench.targets.direct import DirectTarget
from bench.targets.karta import KartaTarget
from bench.targets.nginx import NginxTarget
from bench.targets.python_module import PythonModuleTarget

_ALL: tuple[Target, ...] = (
    DirectTarget(),
    PythonModuleTarget("relay", "bench.relay", "the bare Trio relay: the floor, no governance"),
    NginxTarget(),
    PythonModuleTarget("naive", "bench.naive", "Hypercorn and httpx, as written in an afternoon"),
    KartaTarget(),
)
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}


def targets_named(names: str) -> list[Target]:
    """Return the targets of a comma list, without repeats; ValueError names an unknown one and the known."""
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in chosen if name not in TARGETS]
    if unknown or not chosen:
        raise ValueError(f"unknown arm {', '.join(unknown) or '(none)'}; known are {', '.join(TARGETS)}")
    return [TARGETS[name] for name in chosen]
