"""What every app compiles alike, compiled once for a whole session: a function for each of its 220 routes,
which is a tenth of a second, and its templates. Programs that tests start know nothing of this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import pytest
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from werkzeug.routing import Rule

from admin.rendering import Environment


@contextmanager
def routes_compiled_once() -> Iterator[None]:
    """Rules of one shape build their addresses by one function; it knows its rule only as its argument."""
    compile_builder = Rule._compile_builder
    made: dict[tuple[Any, ...], Callable[..., tuple[str, str]]] = {}

    def remembered(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        if rule.defaults:
            return compile_builder(rule, append_unknown)
        shape = (rule.rule, *rule._trace, append_unknown)
        if shape not in made:
            made[shape] = compile_builder(rule, append_unknown)
        return made[shape]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", remembered)
        yield


class _Memory(BytecodeCache):
    """Templates by their name and their source's checksum."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._made.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        assert bucket.code is not None
        self._made[bucket.key, bucket.checksum] = bucket.code


@contextmanager
def templates_compiled_once() -> Iterator[None]:
    make, memory = Environment.__init__, _Memory()

    def remembering(environment: Environment, *given: Any, **options: Any) -> None:
        make(environment, *given, **options)
        environment.bytecode_cache = memory

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "__init__", remembering)
        yield
