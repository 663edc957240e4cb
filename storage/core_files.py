"""What a process that crashes leaves on the disk: nothing."""

from __future__ import annotations

import resource


def leave_no_core_file() -> None:
    """For good, and for the programs that it starts: a core file would hold prompts, passwords and keys, as
    they are in memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
