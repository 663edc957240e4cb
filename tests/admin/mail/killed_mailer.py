"""The mail worker as a process that is killed by SIGKILL at a step of its round: `python -P -m` with the
database's and Postmark's URL.

It reads a number and makes a process of that round, by a fork, so that imports are paid for once. A step is a
statement of the database or a call of Postmark's; 2n is before the nth, 2n + 1 after it, and -1 is none. It
prints the process's id, and when it has ended by which signal (0: by itself).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import trio
from pydantic import SecretStr

from admin.mail.mailer import Mailer
from admin.mail.postmark import Postmark, open_postmark
from storage.bridge import Database, open_database
from storage.sealing import MasterKeys
from tests.support.postmark import TOKEN


def main(database_url: str, postmark_url: str, origin: str) -> None:
    keys = MasterKeys.parse(os.environ["KARTA_MASTER_KEYS"])
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            trio.run(_round, database_url, postmark_url, origin, keys, int(line))
            os._exit(0)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)


async def _round(database_url: str, postmark_url: str, origin: str, keys: MasterKeys, step: int) -> None:
    async with (
        open_database(database_url, role="karta_admin") as db,
        open_postmark(postmark_url, SecretStr(TOKEN), "karta@example.com") as postmark,
    ):
        steps = _Steps(step)
        steps.watch(db, "_ask", Database._ask)
        steps.watch(postmark, "_call", Postmark._call)
        await Mailer(db, keys, postmark, origin).do_round()


class _Steps:
    def __init__(self, deadly: int) -> None:
        self._deadly, self._next = deadly, 0

    def watch(self, owner: object, name: str, whole: Any) -> None:
        async def watched(*args: Any, **kwargs: Any) -> Any:
            number, self._next = self._next, self._next + 2
            self._die_at(number)
            answer = await whole(owner, *args, **kwargs)
            self._die_at(number + 1)
            return answer

        setattr(owner, name, watched)

    def _die_at(self, step: int) -> None:
        if step == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
