"""nginx as a plain reverse proxy: one worker, kept-alive upstream connections, no buffering.

The program is looked for as KARTA_BENCH_NGINX, then on the PATH and in /usr/sbin.  It runs with a
configuration, a pid file and temporary folders of its own: the system's service, if there is one, is never
touched.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.process import child_process
from bench.process_watch import descendants
from bench.targets.base import (
    PLACEHOLDER_KEY,
    Installation,
    RunningTarget,
    Target,
    TargetContext,
    TargetUnavailable,
    start_seconds_max,
)
from bench.targets.listening import accepting, free_port

PROGRAM_VARIABLE = "KARTA_BENCH_NGINX"
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_CONFIGURATION = """\
daemon off;
worker_processes {workers};
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
      proxy_pass {scheme}://provider;
{tls}      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""

_TLS = """\
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {ca_file};
      # nginx looks for names only, and not for addresses.
      proxy_ssl_name localhost;
"""


def find_program() -> str | None:
    """Return the nginx to use, or None."""
    named = os.environ.get(PROGRAM_VARIABLE)
    folders = os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_FOLDERS))
    return named or shutil.which("nginx", path=folders)


def write_configuration(
    directory: Path, upstream_url: str, port: int, *, workers: int = 1, ca_file: str | None = None
) -> Path:
    """Write a configuration that forwards 127.0.0.1:`port` to the upstream; return its path."""
    path = directory / "nginx.conf"
    upstream = urlsplit(upstream_url)
    tls = "" if ca_file is None else _TLS.format(ca_file=ca_file)
    path.write_text(
        _CONFIGURATION.format(
            directory=directory,
            upstream=upstream.netloc,
            scheme=upstream.scheme,
            port=port,
            workers=workers,
            tls=tls,
        )
    )
    return path


def program_version(program: str) -> str:
    """Return what the program says its version is; empty if it cannot be run."""
    try:
        said = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stderr.strip().rpartition("/")[2]


class NginxTarget(Target):
    """Debian's nginx, or the one named by KARTA_BENCH_NGINX."""

    name = "nginx"
    description = "nginx as a reverse proxy, one worker"
    optional = True

    def installation(self) -> Installation:
        program = find_program()
        if program is None:
            return Installation(ready=False, mend=f"apt install nginx, or set {PROGRAM_VARIABLE}")
        return Installation(ready=True, version=program_version(program))

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        program = find_program()
        if program is None:
            raise TargetUnavailable(f"nginx is not installed (apt install nginx, or set {PROGRAM_VARIABLE})")
        port = free_port()
        configuration = write_configuration(
            context.directory,
            context.upstream_url,
            port,
            workers=context.workers,
            ca_file=context.ca_file,
        )
        argv = [program, "-e", "stderr", "-p", str(context.directory), "-c", str(configuration)]
        stderr_path = context.directory / "nginx.stderr"
        # A master that is killed leaves its workers to themselves; one that is asked ends them.
        async with child_process(
            argv, stderr_path=stderr_path, cpus=context.target_cpus, orphan_signal=signal.SIGTERM
        ) as child:
            await accepting(
                child,
                port,
                name=self.name,
                seconds_max=start_seconds_max,
                also=lambda: len(descendants(child.pid)) >= context.workers,
            )
            yield RunningTarget(
                base_url=f"http://127.0.0.1:{port}",
                keys=[PLACEHOLDER_KEY],
                pids=[child.pid, *descendants(child.pid)],
                command=argv,
            )
