"""All targets by name, in the order in which reports list them."""

from collections.abc import Sequence

from bench.targets.base import Target
from bench.targets.direct import DirectTarget
from bench.targets.ferrogw import FerrogwTarget
from bench.targets.karta import KartaTarget
from bench.targets.litellm import LiteLLMTarget
from bench.targets.nginx import NginxTarget
from bench.targets.portkey import PortkeyTarget
from bench.targets.program import ProgramTarget
from bench.targets.python_module import PythonModuleTarget
from bench.targets.respan import RespanTarget

_ALL: tuple[Target, ...] = (
    DirectTarget(),
    PythonModuleTarget("relay", "bench.relay", "the bare Trio relay: the floor, no governance"),
    NginxTarget(),
    PythonModuleTarget("naive", "bench.naive", "Hypercorn and httpx, as written in an afternoon"),
    FerrogwTarget(),
    RespanTarget(),
    PortkeyTarget(),
    LiteLLMTarget(),
    KartaTarget(),
)
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
INSTALLABLE: dict[str, ProgramTarget] = {
    target.name: target for target in _ALL if isinstance(target, ProgramTarget)
}
OURS = ("direct", "relay", "nginx", "naive", "karta")
"""What is compared where nothing else is said: nothing of it has to be installed by `karta bench install`."""


def targets_named(names: str, more: Sequence[Target] = ()) -> list[Target]:
    """Return the targets of a comma list, without repeats; ValueError names an unknown one and the known.

    `more` are targets of this run alone, and known by their names too.
    """
    known = {**TARGETS, **{target.name: target for target in more}}
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ValueError(f"unknown arm {', '.join(unknown) or '(none)'}; known are {', '.join(known)}")
    return [known[name] for name in chosen]
