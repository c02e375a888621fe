"""What the kernel of this machine offers for isolation; asked once, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from shipway.core.isolation import Kernel

_TIMEOUT_S = 20.0


def kernel_here() -> Kernel:
    """What can be enforced here; nothing, where it cannot be found out. Blocks for a moment."""
    command = [sys.executable, "-I", "-m", "shipway.confinement.probing"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT_S)
        return msgspec.json.decode(done.stdout, type=Kernel)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError):
        nothing = "the kernel could not be asked"
        return Kernel(machine=os.uname().machine, mounts_refused=nothing, is_root=os.getuid() == 0)
