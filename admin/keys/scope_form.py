"""The fields of a form that say what a key may be used for, and how they are read."""

from __future__ import annotations

from typing import NamedTuple

from werkzeug.datastructures import MultiDict

from storage.errors import InvalidValue
from storage.key_scopes import ENTRIES_MAX, parse_endpoints, parse_networks
from storage.model import KeyScope

MODELS_MAX = 200
MODEL_CHARS_MAX = 200


class Family(NamedTuple):
    """Endpoints that are chosen together: they serve one purpose."""

    name: str
    label: str
    endpoints: tuple[str, ...]


FAMILIES = (
    Family("messages", "Messages (Anthropic)", ("messages", "complete")),
    Family("chat", "Chat completions (OpenAI)", ("chat", "completions")),
    Family("responses", "Responses (OpenAI)", ("responses", "conversations")),
    Family("embeddings", "Embeddings", ("embeddings",)),
    Family("images", "Images", ("images",)),
    Family("audio", "Speech and transcription", ("audio",)),
    Family("realtime", "Realtime", ("realtime", "live")),
    Family("moderations", "Moderations", ("moderations",)),
    Family("models", "The list of models", ("models",)),
    Family("files", "Files and batches", ("files", "uploads", "batches")),
)
"""Whatever else there is can be chosen on the command line."""


def read_scope(form: MultiDict[str, str], others: tuple[str, ...] = ()) -> tuple[KeyScope, dict[str, str]]:
    """The scope, and what is wrong by field. Endpoints that the form does not show are kept from `others`."""
    problems = {}
    models = _lines(form.get("models", ""))
    if len(models) > MODELS_MAX or not all(
        len(model) <= MODEL_CHARS_MAX and model.isprintable() for model in models
    ):
        problems["models"] = f"Name up to {MODELS_MAX} models, one a line."
    chosen = form.getlist("endpoints")
    endpoints = [name for family in FAMILIES if family.name in chosen for name in family.endpoints]
    endpoints += others
    networks = None
    try:
        networks = parse_networks(_lines(form.get("networks", "")))
    except InvalidValue:
        problems["networks"] = f"Write up to {ENTRIES_MAX} networks like 192.0.2.0/24, one a line."
    scope = KeyScope(models=tuple(models) or None, endpoints=parse_endpoints(endpoints), networks=networks)
    return scope, problems


def find_others(scope: KeyScope) -> tuple[str, ...]:
    """Endpoints of a scope that no family of the form stands for: the command line chose them."""
    shown = {name for family in _find_families(scope) for name in family.endpoints}
    return tuple(name for name in scope.endpoints or () if name not in shown)


def _find_families(scope: KeyScope) -> list[Family]:
    return [family for family in FAMILIES if set(family.endpoints) <= set(scope.endpoints or ())]


def show_scope(scope: KeyScope) -> dict[str, object]:
    """What the fields show of a scope."""
    return {
        "models": "\n".join(scope.models or ()),
        "endpoints": [family.name for family in _find_families(scope)],
        "networks": "\n".join(scope.networks or ()),
    }


def show_given(form: MultiDict[str, str]) -> dict[str, object]:
    """What the fields show of a form that was sent."""
    return {**form, "endpoints": form.getlist("endpoints")}


def _lines(text: str) -> list[str]:
    return [part.strip() for part in text.replace(",", "\n").splitlines() if part.strip()]
