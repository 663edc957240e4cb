"""`/_sim/…`: the simulator looked at from outside. No key is needed; it is a test tool on loopback.

`GET /_sim/ledger[?after=SEQ&limit=N&headers=1 | ?request_id=ID]`, `DELETE /_sim/ledger`,
`GET /_sim/connections[?after=ID]`, `DELETE /_sim/connections`, `DELETE /_sim/state` (what clients created),
`GET /_sim/health`.
"""

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from bench.sim.answer import Answer, json_answer
from bench.sim.request import Request

if TYPE_CHECKING:
    from bench.sim.app import Simulator


def answer(simulator: "Simulator", request: Request) -> Answer:
    """The answer to one look at the simulator; 404 and 405 as plain JSON."""
    asked = {name: values[-1] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
    try:
        match request.method, request.path.removeprefix("/_sim/"):
            case (("GET" | "HEAD"), "health"):
                return json_answer({"ok": simulator.failures == 0, "failures": simulator.failures})
            case (("GET" | "HEAD"), "ledger"):
                return _ledger(simulator, asked)
            case (("GET" | "HEAD"), "connections"):
                return json_answer(simulator.connections.document(after=int(asked.get("after", "0"))))
            case "DELETE", "ledger":
                simulator.ledger.clear()
                simulator.state.forget_counts()
                return json_answer({"cleared": True})
            case "DELETE", "state":
                simulator.state.clear()
                simulator.prepared.clear()
                return json_answer({"cleared": True})
            case "DELETE", "connections":
                simulator.connections.clear()
                return json_answer({"cleared": True})
    except ValueError as error:
        return json_answer({"error": f"after and limit must be numbers: {error}"}, status=400)
    return json_answer({"error": "there are /_sim/ledger, /_sim/connections and /_sim/health"}, status=404)


def _ledger(simulator: "Simulator", asked: dict[str, str]) -> Answer:
    document = simulator.ledger.document(
        after=int(asked.get("after", "0")),
        limit=int(asked["limit"]) if "limit" in asked else None,
        request_id=asked.get("request_id"),
        with_headers=asked.get("headers") == "1",
    )
    return json_answer(document)
