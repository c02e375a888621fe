"""What of an artifact is copied into a bundle, and where to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_SKIPPED = frozenset({"__pycache__", ".git", ".venv", ".ipynb_checkpoints", ".mypy_cache"})


def artifact_path(path: Path) -> str:
    """Where the artifact lies in the bundle: `model/<name>` for a file, `model` for a directory."""
    return "model" if path.is_dir() else f"model/{path.name}"


def artifact_files(path: Path, *, code: Path | None = None) -> dict[str, Path]:
    """Bundle path -> file to copy, sorted; `code` (a file or directory) goes to `model/code`.

    Byte code, version control and editor files are left out.
    """
    found = dict(_under(path, artifact_path(path)))
    if code is not None:
        prefix = "model/code" if code.is_dir() else f"model/code/{code.name}"
        found |= dict(_under(code, prefix))
    return dict(sorted(found.items()))


def _under(path: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield prefix, path
        return
    for file in path.rglob("*"):
        inside = file.relative_to(path)
        if file.is_file() and file.suffix != ".pyc" and not _SKIPPED & set(inside.parts):
            yield f"{prefix}/{inside.as_posix()}", file
