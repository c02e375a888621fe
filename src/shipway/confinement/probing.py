"""What this kernel offers, found out by trying: run as a module, it prints one JSON object and ends.

In a process of its own, because what it tries cannot be undone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

from shipway.confinement import filtering, landlock, mounting

_SMALL_BYTES = 1024 * 1024


def probed() -> dict[str, object]:
    """What the kernel lets this process do, by the names of `core.isolation.Kernel`."""
    machine = os.uname().machine
    return {
        "machine": machine,
        "landlock_abi": landlock.abi(),
        "filters_calls": filtering.is_available(machine),
        "mounts_refused": _mounts_refused(hides_processes=False),
        "hides_processes": not _mounts_refused(hides_processes=True),
        "is_root": os.getuid() == 0,
    }


def _mounts_refused(*, hides_processes: bool) -> str:
    with tempfile.TemporaryDirectory(prefix="shipway-probe-") as scratch:
        child = os.fork()
        if child == 0:
            try:
                mounting.make_private(
                    scratch, shared_memory_bytes=_SMALL_BYTES, hides_processes=hides_processes
                )
            except OSError as exc:
                os._exit(exc.errno or 1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return os.strerror(code) if code else ""


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probed()))
