"""What lies in the zip archives that PyTorch writes."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path

_HEAD_BYTES = 1 << 16


class Archive(StrEnum):
    """What a zip archive of PyTorch's holds."""

    SCRIPT = "TorchScript"
    EXPORTED = "torch.export program"
    WEIGHTS = "torch.save file"


def archive_in(path: Path) -> Archive | None:
    """What the archive holds, also when it ends too early; None when it is not PyTorch's."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.startswith(b"PK\x03\x04"):
        return None
    names = _names(path)
    if names is None:
        return _of_head(head)
    inner = [name.partition("/")[2] or name for name in names]
    return _of_names(inner)


def is_complete(path: Path) -> bool:
    """Whether the archive's directory, which is written last, is there."""
    return _names(path) is not None


def _names(path: Path) -> list[str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            # The directory found last may be that of an archive inside one that ends too early.
            starts_here = min((item.header_offset for item in archive.infolist()), default=0) == 0
            return archive.namelist() if starts_here else None
    except (zipfile.BadZipFile, OSError):
        return None


def _of_names(names: list[str]) -> Archive | None:
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return Archive.SCRIPT
    if any(
        name.startswith("models/") or name == "serialized_exported_program.json" for name in names
    ):
        return Archive.EXPORTED
    return Archive.WEIGHTS if "data.pkl" in names else None


def _of_head(head: bytes) -> Archive | None:
    if b"archive_format" in head or b"models/" in head or b"serialized_exported" in head:
        return Archive.EXPORTED
    if b"/code/" in head or b"/data.pkl" in head or b"/data/" in head:
        return Archive.SCRIPT
    return None
