"""`POST /v1/realtime/calls`: SDP in, SDP out, and a Location header.

The WebSocket side of the realtime API is in `sockets`.
"""

from bench.sim import text
from bench.sim.answer import Answer
from bench.sim.behaviour import Behaviour
from bench.sim.request import Request
from bench.sim.state import State

SDP = b"v=0\r\no=- 1795000000 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"


def create_call(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/realtime/calls`: 201 with the answering SDP."""
    del state
    call_id = text.identifier("rtc_", 24, behaviour.seed, request.size_bytes)
    location = (b"location", f"/v1/realtime/calls/{call_id}".encode())
    return Answer(status=201, content_type=b"application/sdp", headers=[location], body=SDP)
