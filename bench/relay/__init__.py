"""The floor: what Trio costs before any governance.

Karta's speed is stated as a ratio to this relay, so it has to be as fast as plain Trio can honestly be:
one process, non-blocking sockets driven by `trio.lowlevel.wait_readable`, llhttp (httptools) for message
framing only, a keep-alive pool of its own towards the upstream, and bytes forwarded as they came with
nothing but the Host line rewritten.  It checks no key, counts nothing and limits nobody.

`framing` knows where messages end, `upstream` owns the pool, `server` moves the bytes.
Run it with `python -m bench.relay --port 0 --upstream http://127.0.0.1:9000 --json`.
"""
