"""The measured figures, by name."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import msgspec


class Coefficient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure, in `unit`, and where it is from."""

    value: float
    unit: str
    what: str
    source: str


def read_coefficients(path: Path | None = None) -> dict[str, Coefficient]:
    """Return those of a file over those that come with Karta.

    Raises ValueError for a file that has other names, or that says something else than figures.
    """
    own = _decode((files("bench.capacity") / "coefficients.toml").read_bytes())
    if path is None:
        return own
    given = _decode(path.read_bytes())
    if unknown := given.keys() - own.keys():
        raise ValueError(f"{path} has figures that nothing asks for: {', '.join(sorted(unknown))}")
    return own | given


def values_of(coefficients: Mapping[str, Coefficient]) -> dict[str, float]:
    """Return the bare figures."""
    return {name: one.value for name, one in coefficients.items()}


def _decode(text: bytes) -> dict[str, Coefficient]:
    try:
        found = msgspec.toml.decode(text, type=dict[str, Coefficient])
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a file of figures: {error}") from None
    if wrong := [name for name, one in found.items() if one.value <= 0]:
        raise ValueError(f"figures must be above zero: {', '.join(wrong)}")
    return found
