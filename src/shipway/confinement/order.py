"""What a process is to be confined to; made by who starts it, and handed over as JSON."""

from __future__ import annotations

import json
from typing import NamedTuple


class Order(NamedTuple):
    """Everything that `confine` applies. Each part named here is applied or the process ends.

    `landlock_abi` is the newest of the kernel's that may be used, 0 for none. `read` may be read,
    listed and executed, `use` are devices to read and write. `scratch` is the private directory.
    Limits of 0 are not set. `group` is the control group to join, empty for none.
    """

    landlock_abi: int
    seccomp: bool
    mounts: bool
    hides_processes: bool
    network: bool
    read: list[str]
    use: list[str]
    scratch: str
    memory_bytes: int
    processes: int
    open_files: int
    file_bytes: int
    group: str

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        return json.dumps(self._asdict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """The order in that text."""
        return cls(**json.loads(text))
