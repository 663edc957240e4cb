"""A customer of the image's services: `image_client.py ADDRESS message|stream|page [KEY]`.

It asks from ADDRESS, which the services take for their proxy, and prints what came.
"""

from __future__ import annotations

import sys

import anthropic
import httpx2

GATEWAY = "http://127.0.0.1:8080"
ADMIN = "http://127.0.0.1:8000"
PROXIED = {"x-forwarded-proto": "https", "x-forwarded-for": "198.51.100.7"}


def main(address: str, what: str, key: str = "") -> None:
    client = httpx2.Client(transport=httpx2.HTTPTransport(local_address=address), headers=PROXIED, timeout=60)
    if what == "page":
        page = client.get(f"{ADMIN}/sign-in", headers={"host": "a.example"})
        assert page.status_code == 200, page.text
        assert "<h1>Sign in</h1>" in page.text
        assert "strict-transport-security" in page.headers
        return
    sdk = anthropic.Anthropic(api_key=key, base_url=GATEWAY, http_client=client, max_retries=0)
    asked = [{"role": "user", "content": "Hello"}]
    if what == "message":
        answer = sdk.messages.create(model="sim:tokens=5", max_tokens=16, messages=asked)
        assert answer.usage.output_tokens == 5
        return
    # Slow enough to be under way when the gateway is told to stop, and over long before it must.
    with sdk.messages.stream(model="sim:tokens=60,pace_ms=100", max_tokens=64, messages=asked) as stream:
        last = ""
        for event in stream:
            if event.type == "content_block_start":
                print("began", flush=True)
            last = event.type
    print(last, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
