"""`python -m bench.naive --port 0 --upstream URL [--json]`."""

import argparse
import json

import trio

from bench.naive.app import run_naive


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.naive", description="The naive Hypercorn + httpx proxy."
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--upstream", required=True, help="origin to proxy to, e.g. http://127.0.0.1:9000")
    parser.add_argument("--json", action="store_true", help="print one JSON line when ready")
    options = parser.parse_args()

    def announce(base_url: str) -> None:
        print(json.dumps({"base_url": base_url}) if options.json else f"proxying {base_url}", flush=True)

    trio.run(run_naive, options.port, options.upstream, announce)


if __name__ == "__main__":
    main()
