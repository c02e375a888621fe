"""Files that are there whole or not at all, and stay there when the power goes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from shipway.core.errors import StateUnusable


def write_whole(path: Path, chunks: Iterable[bytes], *, mode: int = 0o644) -> str:
    """Writes a file, or over it; gives the SHA-256 of its bytes. Its directory is made when missing.

    Raises:
        StateUnusable: it cannot be written; what was there before is there still.
    """
    draft = path.with_name(f"{path.name}.draft")
    digest = sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        # Made with its mode, so that nobody else can open it in between.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in chunks:
                digest.update(chunk)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        _sync_directory(path.parent)
    except OSError as exc:
        raise StateUnusable(
            f"`{path}` cannot be written: {exc.strerror or exc}.",
            next_step="Make it writable, or free some space.",
        ) from exc
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes. Raises OSError."""
    with path.open("rb") as stream:
        digest = sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
