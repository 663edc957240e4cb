"""The naive baseline: a streaming proxy as a sensible team would write it in an afternoon.

A plain ASGI application on Hypercorn's Trio worker, with one shared httpx client towards the upstream.  Its
author knows to raise the pool limits, to stream the answer instead of collecting it and to drop hop-by-hop
headers; nothing is tuned beyond that.  Karta's speed is stated as a multiple of it.

Run it with `python -m bench.naive --port 0 --upstream http://127.0.0.1:9000 --json`.
"""
