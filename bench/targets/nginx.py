"""nginx as a plain reverse proxy: one worker, kept-alive upstream connections, no buffering.

The program is looked for as KARTA_BENCH_NGINX, then on the PATH and in /usr/sbin.  It runs with a
configuration, a pid file and temporary folders of its own: the system's service, if there is one, is never
touched.
"""

import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trio

from bench.process import Child, child_process
from bench.process_watch import descendants
from bench.targets.base import (
    PLACEHOLDER_KEY,
    RunningTarget,
    TargetContext,
    TargetUnavailable,
    start_seconds_max,
)

PROGRAM_VARIABLE = "KARTA_BENCH_NGINX"
_LOOK_SECONDS = 0.02
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 64m;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream provider {{
    server {upstream};
    keepalive 4096;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""


def find_program() -> str | None:
    """Return the nginx to use, or None."""
    named = os.environ.get(PROGRAM_VARIABLE)
    folders = os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_FOLDERS))
    return named or shutil.which("nginx", path=folders)


def write_configuration(directory: Path, upstream_url: str, port: int) -> Path:
    """Write a configuration that forwards 127.0.0.1:`port` to the upstream; return its path."""
    path = directory / "nginx.conf"
    upstream = urlsplit(upstream_url).netloc
    path.write_text(_CONFIGURATION.format(directory=directory, upstream=upstream, port=port))
    return path


def free_port() -> int:
    """Return a port that was free just now; nginx cannot be told to pick one itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _accepting(child: Child, port: int) -> None:
    """Wait until nginx has its worker and accepts connections; TargetUnavailable if it ends or takes too
    long.
    """
    with trio.move_on_after(start_seconds_max):
        while child.returncode is None:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(_LOOK_SECONDS)
                continue
            await stream.aclose()
            if descendants(child.pid):
                return
    raise TargetUnavailable(f"nginx does not serve: {child.stderr_end() or 'it said nothing'}")


class NginxTarget:
    """Debian's nginx, or the one named by KARTA_BENCH_NGINX."""

    name = "nginx"
    description = "nginx as a reverse proxy, one worker"
    governed = False
    optional = True

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        program = find_program()
        if program is None:
            raise TargetUnavailable(f"nginx is not installed (apt install nginx, or set {PROGRAM_VARIABLE})")
        port = free_port()
        configuration = write_configuration(context.directory, context.upstream_url, port)
        argv = [program, "-e", "stderr", "-p", str(context.directory), "-c", str(configuration)]
        stderr_path = context.directory / "nginx.stderr"
        async with child_process(argv, stderr_path=stderr_path, cpus=context.target_cpus) as child:
            await _accepting(child, port)
            yield RunningTarget(
                base_url=f"http://127.0.0.1:{port}",
                keys=[PLACEHOLDER_KEY],
                pids=[child.pid, *descendants(child.pid)],
            )
