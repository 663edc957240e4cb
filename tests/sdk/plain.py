"""What an SDK gives back, as plain data that can be compared: models, pages, streams, binary answers,
exceptions, raw responses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pydantic

PAGES_MAX = 3
"""How far an automatic pagination is followed."""


def plain(value: Any) -> Any:
    """`value` with every object replaced by its class's name and its fields."""
    if value is None or isinstance(value, str | bytes | int | float | bool):
        return value
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, BaseException):
        return _exception(value)
    if hasattr(value, "get_next_page") and not inspect.iscoroutinefunction(value.get_next_page):
        return _pages(value)
    if isinstance(value, pydantic.BaseModel):
        return _model(value)
    if hasattr(value, "iter_bytes") and hasattr(value, "read"):
        return [type(value).__name__, value.read()]
    if isinstance(value, Iterator):
        return [type(value).__name__, *iterated(value)]
    if hasattr(value, "__dict__"):
        # A class of the SDK that is no model (a decoder's line, a parsed item).
        return [
            type(value).__name__,
            {name: plain(one) for name, one in vars(value).items() if name[0] != "_"},
        ]
    return repr(value)


def iterated(stream: Iterator[Any]) -> list[Any]:
    """Everything a stream gives, and the exception it ended with, if any."""
    seen: list[Any] = []
    try:
        for one in stream:
            seen.append(plain(one))  # noqa: PERF401 - what came before an exception counts
    except (anthropic.AnthropicError, openai.OpenAIError, httpx.HTTPError, httpx2.HTTPError) as error:
        seen.append(_exception(error))
    return seen


async def iterated_async(stream: Any) -> list[Any]:
    """The same of an asynchronous stream."""
    seen: list[Any] = []
    try:
        async for one in stream:
            seen.append(plain(one))  # noqa: PERF401 - what came before an exception counts
    except (anthropic.AnthropicError, openai.OpenAIError, httpx.HTTPError, httpx2.HTTPError) as error:
        seen.append(_exception(error))
    return seen


async def plain_async(value: Any) -> Any:
    """`plain` for what an asynchronous SDK call gave, awaited already."""
    if hasattr(value, "__aiter__") and not isinstance(value, pydantic.BaseModel):
        return [type(value).__name__.removeprefix("Async"), *await iterated_async(value)]
    if hasattr(value, "aread"):
        return [type(value).__name__.removeprefix("Async"), await value.aread()]
    if isinstance(value, pydantic.BaseModel) and inspect.iscoroutinefunction(
        getattr(value, "get_next_page", None)
    ):
        seen = [_model(value)]
        while len(seen) < PAGES_MAX and value.has_next_page():  # type: ignore[attr-defined]
            value = await value.get_next_page()  # type: ignore[attr-defined]
            seen.append(_model(value))
        return seen
    if hasattr(value, "read") and inspect.iscoroutinefunction(value.read):
        return [type(value).__name__.removeprefix("Async"), await value.read()]
    return plain(value)


def _model(value: pydantic.BaseModel) -> Any:
    """Fields as they were set, unknown ones included; a page's options and client are no data."""
    fields = {
        name: plain(one)
        for name, one in {**value.__dict__, **(value.__pydantic_extra__ or {})}.items()
        if not name.startswith("_")
    }
    return [type(value).__name__, sorted(value.model_fields_set), fields]


def _pages(page: Any) -> list[Any]:
    """A page and some of those after it, asked for as the SDK does by itself."""
    seen = [_model(page)]
    while len(seen) < PAGES_MAX and page.has_next_page():
        page = page.get_next_page()
        seen.append(_model(page))
    return seen


def _exception(error: BaseException) -> Any:
    """Class, message and the fields an SDK's user branches on."""
    shown: dict[str, Any] = {"class": type(error).__name__, "message": str(error)}
    for name in ("status_code", "body", "type", "code", "param", "message"):
        if hasattr(error, name):
            shown[f"its {name}"] = plain(getattr(error, name))
    shown["has a request id"] = getattr(error, "request_id", None) is not None
    if error.__cause__ is not None and not hasattr(error, "status_code"):
        shown["cause"] = type(error.__cause__).__name__
    return shown
