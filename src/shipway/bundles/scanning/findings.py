"""What a scan has found so far."""

from __future__ import annotations

from shipway.core.scans import Danger, ScanFinding

MOST_FINDINGS = 50
_MOST_TEXT = 300


class Findings:
    """The first findings, each once; more are not kept."""

    def __init__(self) -> None:
        self._found: dict[tuple[Danger, str, str, str], ScanFinding] = {}

    def add(
        self, danger: Danger, file: str, message: str, *, offset: int | None = None, name: str = ""
    ) -> None:
        """Takes a finding in, unless the same was found before or there are too many."""
        key = (danger, file, name, message)
        if key in self._found or len(self._found) >= MOST_FINDINGS:
            return
        self._found[key] = ScanFinding(
            danger=danger,
            file=_plain(file),
            message=_plain(message),
            offset=offset,
            name=_plain(name),
        )

    def all(self) -> tuple[ScanFinding, ...]:
        """In the order in which they were found."""
        return tuple(self._found.values())


def _plain(text: str) -> str:
    """The text as a terminal and a log can show it: no control characters, not too long."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown if len(shown) <= _MOST_TEXT else f"{shown[:_MOST_TEXT]}…"
