"""The load generator: uvloop, in processes of its own, every answer checked.

`plan` says what to do, `request_bytes` builds the requests once, `answer` follows one answer and decides
whether it is right, `connection` ties both to a socket, `drivers` decides when connections ask: closed loop
(each again as soon as it was answered), open loop (a fixed arrival rate, latency counted from the intended
start, so that a target which stalls cannot slow the questions down and hide it), or streams kept open, for
memory. `dialing` opens connections, `pacer` keeps the exact time, `worker` is the process, `tally` what it
brings back, `run` starts workers and adds them up.

`histogram` keeps latencies within 1 %, in bounded memory.
"""
