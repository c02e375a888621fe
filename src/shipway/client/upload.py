"""A bundle directory as a stream of tar bytes, without a copy on disk or in memory."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from shipway.core.bundles import MANIFEST_NAME
from shipway.engines.bundle import read_manifest

_CHUNK_BYTES = 1024 * 1024
_BLOCK_BYTES = tarfile.BLOCKSIZE
OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: unknown)."""


def nobody_watches(step: str, done: int, total: int) -> None:
    """The progress callback that ignores what it hears."""
    del step, done, total


def bundle_chunks(directory: Path, on_progress: OnProgress = nobody_watches) -> Iterator[bytes]:
    """The tar of a bundle directory, the manifest last, so that a torn upload has none.

    Raises:
        BundleCorrupt: the directory holds no readable manifest.
    """
    files = [file.path for file in read_manifest(directory).content.files]
    total = sum(_size(directory, path) for path in files)
    done = 0
    for path in [*files, MANIFEST_NAME]:
        for chunk, size_bytes in _member(directory, path):
            done += size_bytes
            on_progress("upload", min(done, total), total)
            yield chunk
    yield b"\0" * (2 * _BLOCK_BYTES)


def _size(directory: Path, path: str) -> int:
    return (directory / path).stat().st_size


def _member(directory: Path, path: str) -> Iterator[tuple[bytes, int]]:
    """The header and content of one file, each chunk with how many of its bytes are the file's."""
    info = tarfile.TarInfo(path)
    info.size = _size(directory, path)
    yield info.tobuf(tarfile.PAX_FORMAT), 0
    with (directory / path).open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk, len(chunk)
    yield b"\0" * (-info.size % _BLOCK_BYTES), 0
