"""What a running `karta up` is told by its own command line: organizations, keys, limits, routes.

Keys travel by stdin and pipes, never by argument.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import trio

from bench.process import child_environment
from bench.targets.base import TargetUnavailable

command_seconds_max = 60.0
# A key costs a quarter of a second of bcrypt, and so does its first use.
key_seconds_max = 2.0
FAILOVER_MODEL = "bench-failover"
FAILOVER_PROVIDER = "anthropic_compatible"
_PROVIDERS = ("anthropic", "openai")
_ORGS_AT_ONCE = 2
# The plan that an organization begins with here has no more.
_PRO_KEYS_MAX = 1000
_PROVIDER_KEY = b"sk-bench-provider-key-of-the-organization"
_GOVERNANCE = (
    ("budget", "set", "--usd", "900000", "--period", "month"),
    (
        *("limits", "set", "--requests-per-minute", "100000000"),
        *("--tokens-per-minute", "1000000000000", "--concurrent", "100000"),
    ),
)


class _Created(msgspec.Struct):
    org_id: str


class _Key(msgspec.Struct):
    key: str


class _Minted(msgspec.Struct):
    keys: list[_Key]


class Commands:
    """The `karta` of one data directory."""

    def __init__(self, program: str, data_dir: Path, environment: Mapping[str, str]) -> None:
        self._program = program
        self._data_dir = data_dir
        self._environment = dict(environment)

    async def run(
        self, *arguments: str, stdin: bytes = b"", seconds_max: float = command_seconds_max
    ) -> bytes:
        """Run one command to its end and return what it printed; TargetUnavailable with its stderr if it
        fails.
        """
        told = " ".join(arguments[:2])
        with trio.move_on_after(seconds_max):
            done = await trio.run_process(
                [self._program, *arguments, "--data-dir", str(self._data_dir), "--json"],
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=child_environment(self._environment),
            )
            if done.returncode == 0:
                return done.stdout
            said = done.stderr.decode(errors="replace").strip()[-400:]
            raise TargetUnavailable(f"karta {told} failed: {said}")
        raise TargetUnavailable(f"karta {told} took more than {seconds_max:g} s")

    async def govern(self, org_id: str, providers: Sequence[str] = _PROVIDERS) -> None:
        """Seal a provider key for the organization, and set limits and a budget that no run reaches."""
        for provider in providers:
            await self.run("byok", "set", "--org", org_id, "--provider", provider, stdin=_PROVIDER_KEY)
        for arguments in _GOVERNANCE:
            await self.run(*arguments, "--org", org_id)

    async def create_org(self, number: int) -> str:
        """Make one more governed organization; return its id."""
        made = await self.run("org", "create", "--name", f"bench tenant {number}", "--plan", "pro")
        org_id = msgspec.json.decode(made, type=_Created).org_id
        await self.govern(org_id)
        return org_id

    async def _create_orgs(self, numbers: Sequence[int]) -> list[str]:
        """Make several organizations, some at a time: each takes six commands, and each of them a start."""
        made: dict[int, str] = {}
        failed: list[TargetUnavailable] = []
        at_once = trio.CapacityLimiter(_ORGS_AT_ONCE)

        async def create(number: int) -> None:
            async with at_once:
                try:
                    made[number] = await self.create_org(number)
                except TargetUnavailable as error:
                    failed.append(error)
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(create, number)
        if failed:
            raise failed[0]
        return [made[number] for number in numbers]

    async def mint(self, org_id: str, count: int) -> list[str]:
        """Make so many keys."""
        if not count:
            return []
        made = await self.run(
            *("keys", "mint", "--org", org_id, "--name", "bench", "--count", str(count)),
            seconds_max=command_seconds_max + count * key_seconds_max,
        )
        return [key.key for key in msgspec.json.decode(made, type=_Minted).keys]

    async def keys_of_tenants(self, first_org: str, first_key: str, *, keys: int, tenants: int) -> list[str]:
        """Return `keys` keys, those of `tenants` organizations in turn, and make what is missing."""
        orgs = [first_org, *await self._create_orgs(range(2, tenants + 1))]
        share, rest = divmod(max(keys, tenants), tenants)
        held = []
        for index, org_id in enumerate(orgs):
            wanted = share + (index < rest)
            if wanted > _PRO_KEYS_MAX:
                await self.run("org", "set-plan", "--org", org_id, "enterprise")
            own = [first_key] if index == 0 else []
            held.append(own + await self.mint(org_id, wanted - len(own)))
        return [
            held[tenant][turn]
            for turn in range(share + 1)
            for tenant in range(tenants)
            if turn < len(held[tenant])
        ]

    async def route_failover(self, org_id: str, behaviour: str) -> None:
        """Make the model FAILOVER_MODEL go to a provider that is not there, and then to the one that is."""
        await self.run(
            *("byok", "set", "--org", org_id, "--provider", FAILOVER_PROVIDER), stdin=_PROVIDER_KEY
        )
        await self.run(
            *("routes", "set", "--org", org_id, "--alias", FAILOVER_MODEL),
            *("--target", f"{FAILOVER_PROVIDER}/sim:{behaviour}"),
            *("--target", f"anthropic/sim:{behaviour}"),
        )
