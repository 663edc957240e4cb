"""That the programs of this folder work, small and short; figures are for the environments of tox.

`scaling` has nothing that the others have not.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.gateway.conftest import Tenant
from tests.reach import crowd, export, flood, handover, pages, predicted, soak, streams
from tests.support.postgres import PostgresServer


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (streams, "--idle 100 --paced 10 --ramp 0.5 --seconds 1"),
        (flood, "--rate 100 --seconds 1 --connections 4 --tokens 30 --flood-connections 8 --lead 1"),
        (handover, "--keys 2 --seconds 3 --rate 20"),
        (soak, "--seconds 4"),
        (
            pages,
            "--people 3 --rounds 2 --pause 0.3 --rate 20 --processes 2 --reading 0.2 --reading-seconds 1",
        ),
        (predicted, "--idle 50 --rate 50 --seconds 1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_it_runs(program: object, arguments: str, own_tenant: Tenant, tmp_path: Path) -> None:
    given = program.parser().parse_args([*arguments.split(), "--no-assert"])  # type: ignore[attr-defined]
    await program.measure(own_tenant, tmp_path, given)  # type: ignore[attr-defined]


def test_an_export_over_http_is_flat_and_waits_for_nobody(postgres_server: PostgresServer) -> None:
    name = f"export{os.getpid()}"
    export.measure(postgres_server, name, rows=15_000, stall=1)
    postgres_server.drop_database(name)


def test_a_crowd_is_measured(postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--orgs 200 --keys 300 --remembered 300 --accounts 300 --owners 3 --sessions 1 2 --batches 1"
    given = crowd.parser().parse_args([*small.split(), "--minutes", "2", "--chains", "5", "--seconds", "0.2"])
    crowd.run(postgres_server, given)
    told = capsys.readouterr().out
    assert "signing a chain's head" in told
    assert "FAILED" not in told
