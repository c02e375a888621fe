"""Register: package a model where it is, then upload the finished bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shipway.client import calls
from shipway.client.answers import Version
from shipway.client.exchange import Flow, Work, one
from shipway.client.upload import OnProgress, bundle_chunks
from shipway.core.bundles import MANIFEST_NAME

Packer = Callable[[Path], Path]
"""Writes a bundle below the directory that it is given; the bundle's own directory."""


def register(model: Any, name: str, *, pack: Packer, on_progress: OnProgress) -> Flow[Version]:
    """Uploads a bundle directory, or packs `model` into one for the time of the upload."""
    if isinstance(model, str | Path) and (Path(model) / MANIFEST_NAME).is_file():
        return (yield from uploaded(Path(model), name, on_progress=on_progress))
    with TemporaryDirectory(prefix="shipway-") as scratch:
        directory = yield Work(lambda: pack(Path(scratch)))
        return (yield from uploaded(directory, name, on_progress=on_progress))


def uploaded(directory: Path, name: str, *, on_progress: OnProgress) -> Flow[Version]:
    """Uploads a finished bundle; registering the same bytes again gives the same version."""
    return (yield from one(calls.upload(name, lambda: bundle_chunks(directory, on_progress))))
