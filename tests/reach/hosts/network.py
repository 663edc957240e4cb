"""Hosts, and the switch that their cables lead to.

A network namespace belongs to a thread. So each host is a thread that has made one and stays in it: what it
starts runs there. The kernel takes the namespace away when the thread and all processes in it have ended,
unsaid goodbyes of TCP included: that is how a host loses its power.

Two networks: `front` for clients and providers, `back` for the database. A cable is cut at the switch, either
so that both ends see it (`unplug`: the interface loses its carrier), or so that nobody does (`cut`: the port
is taken out of its bridge, and what is sent vanishes).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import trio

Net = Literal["front", "back"]
NETS: dict[Net, str] = {"front": "10.71.1", "back": "10.71.2"}
KILL_SECONDS_MAX = 10
SLOW_BURST_BYTES = 4096
"""Above a packet's size, and small enough that a slow cable is slow from the first round trip on."""
SLOW_QUEUE_MS = 2000
_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def ip(*arguments: str) -> None:
    _command("ip", *arguments)


def _command(*arguments: str) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")


class Namespace:
    """A thread in a network namespace of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = ThreadPoolExecutor(1, name, initializer=_leave_for_a_new_network)
        self.thread_id = self.run(threading.get_native_id)
        self.run(ip, "link", "set", "lo", "up")
        self._identity = self.run(_network, "thread-self")

    def run(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Here, and returns what it returns."""
        return self._thread.submit(function, *arguments, **options).result()

    def pids(self) -> list[int]:
        """All processes here; the dead that nobody has asked about are none."""
        numbers = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [int(one) for one in numbers if _network(one) == self._identity]

    def end(self) -> None:
        """Without a word to anybody."""
        deadline = time.monotonic() + KILL_SECONDS_MAX
        while pids := self.pids():
            for pid in pids:
                _kill(pid)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: {len(pids)} processes cannot be killed")
            threading.Event().wait(0.01)
        self._thread.shutdown()


class Host(Namespace):
    """One with cables. `number` is the last part of its addresses."""

    def __init__(self, switch: Switch, name: str, number: int, nets: Sequence[Net]) -> None:
        super().__init__(name)
        self._switch = switch
        self.number = number
        self.nets = tuple(nets)
        for net in nets:
            switch.connect(self.thread_id, name, number, net)
            self.run(_bring_up, net, self.address(net))

    def address(self, net: Net) -> str:
        return f"{NETS[net]}.{self.number}"

    def start(
        self, command: Sequence[str], environment: dict[str, str], log: Path, directory: Path
    ) -> subprocess.Popen[bytes]:
        """A program, with its stdout to be read; `log` takes what it says otherwise."""

        def start() -> subprocess.Popen[bytes]:
            with log.open("ab") as stderr:
                return subprocess.Popen(
                    command,
                    env=environment,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                )

        return self.run(start)

    def unplug(self, net: Net) -> None:
        """The cable is cut, and whoever is at its ends can see it."""
        self._switch.run(ip, "link", "set", self._port(net), "down")

    def cut(self, net: Net) -> None:
        """It is cut somewhere, and nobody can see it."""
        self._switch.run(ip, "link", "set", self._port(net), "nomaster")

    def slow(self, net: Net, kilobits_per_second: int) -> None:
        """Both ways."""
        options = f"tbf rate {kilobits_per_second}kbit burst {SLOW_BURST_BYTES} latency {SLOW_QUEUE_MS}ms"
        self._switch.run(_queue, self._port(net), options)
        self.run(_queue, net, options)

    def delayed(self, net: Net) -> int:
        """How many packets of ours a slow cable has held up so far."""
        command = ["tc", "-s", "qdisc", "show", "dev", net]
        told = self.run(subprocess.run, command, capture_output=True, text=True).stdout
        return int(told.partition("overlimits ")[2].split()[0])

    def mend(self, net: Net) -> None:
        """Whatever was done to the cable."""
        self._switch.run(ip, "link", "set", self._port(net), "up", "master", net)
        for where, device in ((self._switch, self._port(net)), (self, net)):
            where.run(subprocess.run, ["tc", "qdisc", "del", "dev", device, "root"], capture_output=True)

    async def lose_power(self) -> None:
        """All at once: nothing that runs on it says anything to anybody any more."""
        for net in self.nets:
            self.cut(net)
        await trio.to_thread.run_sync(self.end)

    def _port(self, net: Net) -> str:
        return f"{self.name}-{net}"


class Switch(Namespace):
    """Where all cables end."""

    def __init__(self) -> None:
        super().__init__("switch")
        for net in NETS:
            self.run(ip, "link", "add", net, "type", "bridge")
            self.run(ip, "link", "set", net, "up")

    def connect(self, thread_id: int, name: str, number: int, net: Net) -> None:
        """A cable from here to the network of that thread, where its interface is called as the net is. A
        host that comes back has the hardware's address it had, as its neighbours remember it."""
        port, address = f"{name}-{net}", f"02:00:00:00:0{list(NETS).index(net)}:{number:02}"
        self.run(subprocess.run, ["ip", "link", "del", port], capture_output=True)
        peer = f"peer name {net} address {address} netns {thread_id}"
        self.run(ip, *f"link add {port} type veth {peer}".split())
        self.run(ip, "link", "set", port, "up", "master", net)

    def connect_ourselves(self, name: str, number: int, net: Net) -> None:
        """This process itself is a host too."""
        self.connect(os.getpid(), name, number, net)
        ip("link", "set", "lo", "up")
        _bring_up(net, f"{NETS[net]}.{number}")


def _bring_up(device: str, address: str) -> None:
    ip("address", "add", f"{address}/24", "dev", device)
    ip("link", "set", device, "up")


def _queue(device: str, options: str) -> None:
    _command(*f"tc qdisc replace dev {device} root {options}".split())


def _leave_for_a_new_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _network(process: str) -> str | None:
    try:
        return str((Path("/proc") / process / "ns/net").readlink())
    except OSError:
        return None


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
