"""A place of its own for all of this: network, process ids and mounts.

The program starts itself again by `unshare`, as process 1 of its own process ids. The kernel ends that one
with its parent, and every process in there with process 1; and with the last of them it takes away
namespaces, cables and the files, which are in memory. So nothing is left, whatever ends the program, a
SIGKILL too. As root that needs no more; others get a user namespace, where the system lets them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

MARK = "KARTA_TEST_INSIDE"
FOLDER = "/dev/shm"
"""Where everything is written."""
FOLDER_SIZE = "2g"
_OWN = ("--net", "--pid", "--mount-proc", "--fork", "--kill-child")
_TRIAL = (
    "ip link add br-try type bridge && ip link add v-try type veth peer name w-try"
    f" && mount -t tmpfs -o size=1m karta-try {FOLDER}"
)
TRIAL_SECONDS_MAX = 20
_PR_SET_PDEATHSIG = 1


def ways() -> list[tuple[str, list[str]]]:
    """What may be tried here, the best first: what it is called, and the command that leads there."""
    root = [("root", ["unshare", *_OWN])] if os.geteuid() == 0 else []
    # PostgreSQL runs as anybody but root: as nobody, then.
    user = ["--map-user=65534", "--map-group=65534"] if root else ["--map-current-user"]
    return [*root, ("a user namespace", ["unshare", "--user", *user, "--keep-caps", *_OWN])]


def find_way() -> list[str]:
    """The command that leads to a place of our own. Exits with the reasons where there is none."""
    reasons = []
    for name, command in ways():
        try:
            subprocess.run(
                [*command, "sh", "-c", _TRIAL],
                check=True,
                capture_output=True,
                text=True,
                timeout=TRIAL_SECONDS_MAX,
            )
            return command
        except FileNotFoundError as error:
            reasons.append(f"{name}: {error.filename} is missing (Debian: util-linux, iproute2)")
        except subprocess.TimeoutExpired:
            reasons.append(f"{name}: no answer within {TRIAL_SECONDS_MAX} s")
        except subprocess.CalledProcessError as error:
            reasons.append(f"{name}: {' '.join(error.stderr.split())}")
    sys.exit(f"no network namespaces can be made here: {'; '.join(reasons)}")


def enter(arguments: Sequence[str]) -> None:
    """Returns inside only: as process 1 of the place, in the client's network."""
    if os.environ.get(MARK) is None:
        program = [*find_way(), sys.executable, "-m", "tests.reach.hosts", *arguments]
        environment = {**os.environ, MARK: "yes"}
        place = subprocess.Popen(program, env=environment, preexec_fn=_die_with_parent)
        # `unshare` itself does not heed it. An interrupt from the terminal reaches those inside as well.
        signal.signal(signal.SIGTERM, lambda *_: place.kill())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(place.wait())
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FOLDER_SIZE}", "karta-hosts", FOLDER], check=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
