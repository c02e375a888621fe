"""What is made of files, made again when they change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from shipway.core.errors import CertificateUnusable

LOOK_EVERY_S = 1.0

T = TypeVar("T")
_Stamp = tuple[tuple[int, int, int] | None, ...]
_log = logging.getLogger(__name__)


class Latest(Generic[T]):
    """The last good value of files. `value` is never made of files that do not belong together.

    Raises:
        CertificateUnusable: what is there at first cannot be used.
    """

    def __init__(self, paths: Sequence[Path | None], build: Callable[[], T]) -> None:
        self._paths = [path for path in paths if path is not None]
        self._build = build
        self._seen = self._stamp()
        self.value = build()

    def look(self) -> bool:
        """Makes the value again if the files have changed; whether there is a new one.

        Files that cannot be used, half-written ones too, are told to the log once, and change nothing.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            self.value = self._build()
        except CertificateUnusable as exc:
            _log.warning("The certificate in use is kept, the new one cannot be used: %s", exc)
            return False
        _log.info("New certificates are in use: %s", ", ".join(map(str, self._paths)))
        return True

    def _stamp(self) -> _Stamp:
        return tuple(_stamp_of(path) for path in self._paths)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
