"""Fields of a decoded request body, which may hold anything: read as the type wanted, or as absent."""

from typing import Any


def items(document: dict[str, Any], name: str) -> list[Any]:
    """The list in the field, [] for anything else."""
    found = document.get(name)
    return found if isinstance(found, list) else []


def objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in the list in the field."""
    return [one for one in items(document, name) if isinstance(one, dict)]


def nested(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The object in the field, {} for anything else."""
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def number(document: dict[str, Any], name: str) -> int | None:
    """The whole number in the field, None for anything else (and for true and false)."""
    found = document.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def string(document: dict[str, Any], name: str, default: str = "") -> str:
    """The string in the field, or the default."""
    found = document.get(name)
    return found if isinstance(found, str) else default
