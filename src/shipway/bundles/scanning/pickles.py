"""The pickles of one file, followed and judged."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import IO

from shipway.bundles.scanning.arrays import WRAPPER, skip_array
from shipway.bundles.scanning.findings import Findings
from shipway.bundles.scanning.imports import Allowed
from shipway.bundles.scanning.judging import AllowListJudge
from shipway.bundles.scanning.machine import Machine, Unfollowable
from shipway.bundles.scanning.source import Ended, Source
from shipway.bundles.scanning.values import Made
from shipway.core.scans import Danger

HINTED_INSTRUCTIONS = 20_000
"""How far bytes are followed that merely look like a pickle."""


class PickleScan:
    """Judges what pickles in the file of that `path` do. `refers`: as in torch's archives."""

    def __init__(
        self, path: str, allowed: Allowed, findings: Findings, *, refers: bool = False
    ) -> None:
        self._path = path
        self._findings = findings
        self._judge = AllowListJudge(allowed, self._report, refers=refers)
        self._lenient = AllowListJudge(allowed, self._report_hint, lenient=True)
        self.has_arrays = False

    def follow(self, stream: IO[bytes], *, at: int = 0) -> int:
        """Follows the pickle in the stream, as joblib would; the position where it ends."""
        source = Source(stream, position=at)
        machine = Machine(source, self._judge)
        machine.on_built = partial(self._on_built, machine)
        try:
            machine.run()
        except (Unfollowable, Ended) as exc:
            message = f"cannot be followed to its end: {exc}"
            self._findings.add(Danger.UNREADABLE, self._path, message, offset=source.position)
        return source.position

    def hint(self, stream: IO[bytes], position: int, *, most: int = HINTED_INSTRUCTIONS) -> None:
        """Follows what may be a pickle; only what it calls without leave counts."""
        with suppress(Unfollowable, Ended):
            Machine(Source(stream, position=position), self._lenient).run(most)

    def _on_built(self, machine: Machine, made: Made, source: Source) -> None:
        if made.maker != WRAPPER:
            return
        self.has_arrays = True
        if machine.frame_end > source.position:
            # A pure-Python unpickler has read the whole frame by now, and goes on behind it.
            raise Unfollowable(source.position, "an array in the middle of a frame")
        skip_array(made, source, objects=lambda: Machine(source, self._judge).run())

    def _report(self, danger: Danger, position: int, name: str, message: str) -> None:
        self._findings.add(danger, self._path, message, offset=position, name=name)

    def _report_hint(self, danger: Danger, position: int, name: str, message: str) -> None:
        message = f"holds a pickle that {message}"
        self._findings.add(danger, self._path, message, offset=position, name=name)
