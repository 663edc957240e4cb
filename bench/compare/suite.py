"""Read a suite from its TOML file: one of the ready-made ones by name, or any by path.

`options` of the file are numbers with names; a scenario that says `connections = "$connections"` takes the
option's, so that the command line can change it (`--set connections=64`) in all places at once.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.compare.scenarios import Suite

ready_made = Path(__file__).parent.parent / "scenarios"
_BYTES_MAX = 1_000_000


def suite_names() -> list[str]:
    """Return the names of the ready-made suites."""
    return sorted(path.stem for path in ready_made.glob("*.toml"))


def suite_path(name: str) -> Path:
    """Return the file of a ready-made suite, or the path that was given; ValueError names what there is."""
    path = Path(name) if name.endswith(".toml") else ready_made / f"{name}.toml"
    if not path.is_file():
        raise ValueError(
            f"there is no suite {name!r}; give a path ending in .toml, or one of {', '.join(suite_names())}"
        )
    return path


def load_suite(name: str, changes: Mapping[str, float] | None = None) -> Suite:
    """Return the suite with its options changed; ValueError says what is wrong with the file or a change."""
    path = suite_path(name)
    if path.stat().st_size > _BYTES_MAX:
        raise ValueError(f"{path} is no suite: it has more than {_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    options = {**document.get("options", {}), **(changes or {})}
    unknown = set(changes or ()) - set(document.get("options", {}))
    if unknown:
        known = ", ".join(document.get("options", {})) or "none"
        raise ValueError(f"the suite {name} has no option {', '.join(sorted(unknown))}; its options: {known}")
    document["options"] = options
    try:
        suite = msgspec.convert(_filled(document, options), Suite)
        scenarios = suite.scenarios()
    except (msgspec.ValidationError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error
    names = [scenario.name for scenario in scenarios]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: two scenarios have the same name")
    return suite


def _filled(node: Any, options: Mapping[str, float]) -> Any:
    """Return the document with every `"$name"` replaced by the option of that name."""
    if isinstance(node, dict):
        return {key: _filled(value, options) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, options) for value in node]
    if isinstance(node, str) and node.startswith("$"):
        if node[1:] not in options:
            raise ValueError(f"there is no option {node[1:]!r} for {node!r}")
        return options[node[1:]]
    return node
