"""A pattern made of heads that came before, which the next one is compared with in one call (sans-IO).

What a provider answers a minute from now has the fields of what it answers now, in the same order. Of a
layout that came often a regular expression is made: it finds where the length, the type and the provider's
request id stand, and the runs of lines that simply pass. A head that matches needs neither llhttp nor to be
taken apart: a line is what stands before CRLF, no value holds a control character but the tab, and one
Content-Length, and nothing else, tells how long the body is. Whatever does not match goes the whole way.

Made only of layouts without anything that needs judgement: no transfer coding, no redirect, Connection at
most with `keep-alive`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.head_layout import Layout, Rule

_STATUS_LINE: Final = rb"HTTP/1\.1 200 OK\r\n"
# As llhttp takes names, and so that a name means itself in a pattern.
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE: Final = rb"[^\r]*+"
_BARE_VALUE: Final = rb"[ \t]*+([^\r]*+)"
_LENGTH_VALUE: Final = rb" ?(\d{1,15}+)"
# All but the tab. CR and LF are counted: those of the pattern's line ends, and no more.
_CONTROLS: Final = bytes(one for one in (*range(0x20), 0x7F) if one != 0x09)

_PASSING: Final = {Rule.PASS, Rule.CONTENT_TYPE, Rule.REQUEST_ID, Rule.ACCOUNT}
_JUDGED: Final = {Rule.LOCATION, Rule.TRANSFER_ENCODING}
_ONCE: Final = (Rule.CONNECTION, Rule.CONTENT_LENGTH, Rule.CONTENT_TYPE)
# Making one takes milliseconds, which a provider that changes its heads all the time must not cost again and
# again: in the life of a process no more than this.
TEMPLATES_MAX: Final = 256

_made = 0


def template_of(layout: Layout) -> Template | None:
    """The template of heads of this layout; None when they need judgement, or when enough have been made."""
    global _made
    rules = [layout.rule(index) for index in range(len(layout.names))]
    if (
        _made >= TEMPLATES_MAX
        or rules.count(Rule.CONTENT_LENGTH) != 1
        or not _JUDGED.isdisjoint(rules)
        or any(rules.count(rule) > 1 for rule in _ONCE)
        or not all(map(_NAME.match, layout.names))
    ):
        return None
    _made += 1
    return Template(layout.names, rules)


class Template:
    """Heads with the same names in the same order as one that was read."""

    __slots__ = ("_ends", "_match", "content_type", "length", "passed", "passed_hiding", "request_id")

    def __init__(self, names: Sequence[bytes], rules: Sequence[Rule]) -> None:
        pattern = _Pattern()
        for name, rule in zip(names, rules, strict=True):
            pattern.add(name, rule)
        pattern.close()
        self._match = re.compile(_STATUS_LINE + b"".join(pattern.parts) + rb"\r\n").match
        self._ends = 2 * (len(names) + 2)
        """Bytes in line ends."""
        self.length = pattern.length
        """The group of the length's digits."""
        self.content_type = pattern.content_type
        """The group of its value; 0 when there is no such field, as with `request_id`."""
        self.request_id = pattern.request_id
        self.passed = tuple(group for group, _ in pattern.runs)
        """Groups of lines that pass, without the last one's end; `passed_hiding` when the account is
        hidden."""
        self.passed_hiding = tuple(group for group, account in pattern.runs if not account)

    def match(self, data: bytes) -> re.Match[bytes] | None:
        """The head that `data` begins with; None when it is another, or not a right one."""
        found = self._match(data)
        if found is not None:
            head = data[: found.end()]
            if len(head.translate(None, _CONTROLS)) == len(head) - self._ends:
                return found
        return None


class _Pattern:
    """Puts the expression together, a line at a time."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.runs: list[tuple[int, bool]] = []
        """The group of each run of lines that pass, and whether they tell of the account."""
        self.length = self.content_type = self.request_id = 0
        self._groups = 0
        self._run: bool | None = None
        """What the open run tells of the account; None when none is open."""

    def add(self, name: bytes, rule: Rule) -> None:
        passes = rule in _PASSING
        if passes:
            self._open(account=rule is Rule.ACCOUNT)
        else:
            self.close()
        self.parts.append(re.escape(name) + b":")
        if rule is Rule.CONTENT_LENGTH:
            self.length = self._group()
            self.parts.append(_LENGTH_VALUE)
        elif rule is Rule.CONTENT_TYPE:
            self.content_type = self._group()
            self.parts.append(_BARE_VALUE)
        elif rule is Rule.REQUEST_ID:
            # Of several the last, as `response_head` takes it.
            self.request_id = self._group()
            self.parts.append(_BARE_VALUE)
        elif rule is Rule.CONNECTION:
            self.parts.append(rb" ?(?:keep-alive|Keep-Alive)")
        else:
            self.parts.append(_VALUE)
        if not passes:
            self.parts.append(rb"\r\n")

    def _open(self, *, account: bool) -> None:
        if self._run is account:
            self.parts.append(rb"\r\n")
            return
        self.close()
        self._run = account
        self.runs.append((self._group(), account))
        self.parts.append(b"(")

    def close(self) -> None:
        if self._run is not None:
            self._run = None
            self.parts.append(rb")\r\n")

    def _group(self) -> int:
        self._groups += 1
        return self._groups
