"""Organizations and keys are made by the command line, as many as are wanted, and come in turn."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.targets.base import TargetUnavailable
from bench.targets.karta_tenants import Commands


class Recorded(Commands):
    """Answers like `karta` would, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__("karta", Path("/data"), {})
        self.told: list[Sequence[str]] = []

    async def run(self, *arguments: str, stdin: bytes = b"", seconds_max: float = 0) -> bytes:
        self.told.append(arguments)
        if arguments[:2] == ("org", "create"):
            return json.dumps({"org_id": arguments[3].rpartition(" ")[2]}).encode()
        if arguments[:2] == ("keys", "mint"):
            org = arguments[3]
            return json.dumps({"keys": [{"key": f"{org}-{n}"} for n in range(int(arguments[-1]))]}).encode()
        return b"{}"


async def test_one_key_needs_nothing_made() -> None:
    commands = Recorded()
    assert await commands.keys_of_tenants("1", "first", keys=1, tenants=1) == ["first"]
    assert commands.told == []


async def test_keys_come_from_each_tenant_in_turn() -> None:
    commands = Recorded()
    keys = await commands.keys_of_tenants("1", "first", keys=5, tenants=2)
    assert keys == ["first", "2-0", "1-0", "2-1", "1-1"]
    byok = [told for told in commands.told if told[0] == "byok"]
    assert [told[3] for told in byok] == ["2", "2"]


async def test_there_are_as_many_keys_as_tenants() -> None:
    assert await Recorded().keys_of_tenants("1", "first", keys=1, tenants=3) == ["first", "2-0", "3-0"]


async def test_a_failover_route_tries_the_dead_one_first() -> None:
    commands = Recorded()
    await commands.route_failover("1", "tokens=9")
    targets = [commands.told[-1][i + 1] for i, word in enumerate(commands.told[-1]) if word == "--target"]
    assert targets == ["anthropic_compatible/sim:tokens=9", "anthropic/sim:tokens=9"]


async def test_a_command_that_fails_is_quoted(tmp_path: Path) -> None:
    program = tmp_path / "karta"
    program.write_text("#!/bin/sh\necho 'plan refused' >&2\nexit 1\n")
    program.chmod(0o700)
    with pytest.raises(TargetUnavailable, match="karta org create failed: plan refused"):
        await Commands(str(program), tmp_path, {}).create_org(2)
