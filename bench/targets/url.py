"""Any Anthropic- or OpenAI-compatible URL as a target, so that a user's own set-up is in the comparison.

For figures that can be set against the others', it has to forward to the same provider: run `karta sim`,
point the gateway at it, and give its URL as `--provider`.  A URL that reaches a real provider gets only its
answers checked for being whole.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from bench.load.plan import Dialect
from bench.targets.base import (
    Check,
    Installation,
    RunningTarget,
    Target,
    TargetContext,
    require,
)


class URLTarget(Target):
    """A gateway that somebody else runs; `pids` are its processes, if they are on this machine.

    Raises ValueError for a URL that is none, or one with a password or a query: reports tell URLs.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        keys: Sequence[str],
        dialects: Sequence[Dialect] = ("anthropic", "openai"),
        check: Check = "bytes",
        model: str | None = None,
        pids: Sequence[int] = (),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"a target's URL is http:// or https://, without password or query: {name}")
        self.name = name
        self.description = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.dialects = dialects
        self.check = check
        self.model = model
        self._url = url
        self._keys = list(keys)
        self._pids = list(pids)

    def installation(self) -> Installation:
        return Installation(ready=True)

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        require(context, name=self.name, tls=False)
        yield RunningTarget(base_url=self._url, keys=self._keys, pids=self._pids)
