"""`/_sim/…`: the simulator looked at from outside. No key is needed; it is a test tool on loopback.

`GET /_sim/ledger[?after=SEQ&limit=N&headers=1 | ?request_id=ID]`, `DELETE /_sim/ledger`,
`GET /_sim/connections[?after=ID]`, `DELETE /_sim/connections`, `DELETE /_sim/state` (what clients created),
`GET /_sim/health`. `PUT /_sim/models/NAME?behaviour=…` makes a model's own name mean a behaviour, for
gateways that take no names but those they know.
"""

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from bench.sim import behaviour as grammar
from bench.sim.answer import Answer, json_answer
from bench.sim.request import Request

if TYPE_CHECKING:
    from bench.sim.app import Simulator

NAMED_MODELS_MAX = 64


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
            case "PUT", path if path.startswith("models/"):
                return _name_model(simulator, path.removeprefix("models/"), asked.get("behaviour", ""))
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
        return json_answer(
            {"error": f"after and limit are numbers, a behaviour is as told: {error}"}, status=400
        )
    return json_answer({"error": "there are /_sim/ledger, /_sim/connections and /_sim/health"}, status=404)


def _name_model(simulator: "Simulator", name: str, behaviour: str) -> Answer:
    """Raises BehaviourError, a ValueError, for a behaviour that cannot be read."""
    grammar.parse(behaviour)
    if name not in simulator.named and len(simulator.named) >= NAMED_MODELS_MAX:
        return json_answer({"error": f"there are {NAMED_MODELS_MAX} named models already"}, status=400)
    simulator.named[unquote(name)] = grammar.MODEL_PREFIX + behaviour
    simulator.prepared.clear()
    return json_answer({"model": name, "behaviour": behaviour})


def _ledger(simulator: "Simulator", asked: dict[str, str]) -> Answer:
    document = simulator.ledger.document(
        after=int(asked.get("after", "0")),
        limit=int(asked["limit"]) if "limit" in asked else None,
        request_id=asked.get("request_id"),
        with_headers=asked.get("headers") == "1",
    )
    return json_answer(document)
