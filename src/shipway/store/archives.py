"""Sealed archives: the older part of the audit chain as files, each with its signed manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from shipway.core.audit import BrokenLink
from shipway.core.heads import Cut
from shipway.core.verification import Link
from shipway.store.files import sha256_of, write_whole
from shipway.wire.audit import line_of, links_in


class Archives:
    """A directory of `<first>-<last>.jsonl` and their `….manifest.json`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path_of(self, name: str) -> Path:
        """Where an archive is, or should be."""
        return self._directory / name

    def write(self, name: str, links: Iterable[Link]) -> str:
        """Writes an archive, or over one that was never sealed; gives its SHA-256.

        Raises:
            StateUnusable: it cannot be written.
        """
        return write_whole(self.path_of(name), map(line_of, links), mode=0o600)

    def seal(self, cut: Cut) -> None:
        """Puts the manifest beside an archive.

        Raises:
            StateUnusable: it cannot be written.
        """
        manifest = msgspec.json.format(msgspec.json.encode(cut), indent=2)
        write_whole(manifest_of(self.path_of(cut.archive)), [manifest], mode=0o600)

    def links(self, name: str) -> Iterator[Link]:
        """What is in an archive. Raises OSError, and InvalidRequest for a line that is none of ours."""
        with self.path_of(name).open("rb") as lines:
            yield from links_in(lines, source=f"`{name}`")

    def fault_of(self, cut: Cut) -> BrokenLink | None:
        """Why the archive of a cut is not what was sealed; None when it is."""
        try:
            is_same = sha256_of(self.path_of(cut.archive)) == cut.sha256
        except OSError as exc:
            reason = f"its archive `{cut.archive}` cannot be read: {exc.strerror or exc}"
            return BrokenLink(sequence=cut.first, reason=f"event {cut.first}: {reason}")
        if is_same:
            return None
        reason = f"event {cut.first}: its archive `{cut.archive}` was changed"
        return BrokenLink(sequence=cut.first, reason=reason)


def manifest_of(path: Path) -> Path:
    """Where the manifest of an archive is."""
    return path.with_suffix(".manifest.json")


def name_of(first: int, last: int) -> str:
    """The file name of an archive; names sort as the events do."""
    return f"{first:012}-{last:012}.jsonl"
